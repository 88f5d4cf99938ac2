//! A node on a disk in memory, through its public surface: what it promises when the power goes, when it is stopped,
//! when the disk fails, when its folder was rolled back.

pub(super) mod bench;
mod damaged;
mod disk;
mod flips;
mod joining;
mod lives;
mod pressure;
mod repair;
mod serving;
pub(in crate::cluster) mod slow;
mod trio;
