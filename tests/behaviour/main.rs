//! What a user of the library sees, part by part. All of it is one program, which is compiled in a fraction of the time that one
//! for each file took: every program compiles the layers, the trainer and all else that is generic for itself.

mod all_reduce;
mod callbacks;
#[path = "../common/mod.rs"]
mod common;
mod compact;
mod faults;
#[path = "../common/models.rs"]
mod models;
mod old_files;
mod pruning;
mod samplers;
mod saving;
mod schedules;
mod sequences;
mod settings;
#[path = "../common/spoiled.rs"]
mod spoiled;
mod state_dict;
mod streams;
#[path = "../common/tensors.rs"]
mod tensors;
mod training;
mod tune;
