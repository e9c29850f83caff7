//! The read path as a whole: over a store and a control plane that misbehave.

mod damage;
mod extents;
mod fetching;
mod offsets;
mod timestamps;
mod waiting;
mod world;
