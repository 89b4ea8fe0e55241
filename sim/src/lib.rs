//! The simulator: production cores and the production loop over a simulated store, network and clock.
//!
//! In: a seed. Out: what happened in its world, and which rules were broken. What runs is the code that ships: the agent's
//! and the scheduler's decisions, the scheduler's loop, its commit chain and its pushes. What is simulated is what they
//! stand on: messages, disks, time, chance, and the machines.

pub mod agent;
pub mod check;
pub mod command;
pub mod draw;
pub mod mutants;
pub mod net;
pub mod people;
pub mod process;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod truth;
pub mod world;
