//! A controller over a real directory.

mod calls;
mod damage;
mod data_dir;
mod feature_level;
mod restart;
mod sessions;
mod world;
