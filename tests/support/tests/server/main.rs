//! Tests of the server with kube's own client and watcher: their requests, their view of each fault, and their recovery.

mod answers;
mod faults;
mod help;
mod records;
mod resources;
mod restarts;
mod scale;
mod streams;
mod watches;
