//! The writer as a whole: over a store and a control plane that misbehave, in paused time.

mod answering;
mod ending;
mod misbehaviour;
mod sealing;
mod uploading;
mod world;
