//! Who a process is: executable, script, container, pod, systemd unit, and what its service is called;
//! and the names of addresses.
//!
//! All of it is read from files: `/proc`, what container engines keep, `/etc/hosts`. What the bytes of
//! those files mean is decided by pure functions, so that it is tested on text. This crate asks no
//! daemon and no server, knows nothing of connections, and renders nothing. Command lines and
//! environments are full of secrets: of them nothing is kept but what is listed here.

pub mod cgroup;
pub mod command;
pub mod environ;
mod files;
mod hosts;
pub mod oci;
mod process;

pub use hosts::Hosts;
pub use process::{Process, Root};
