//! The server under kube's own client and watcher: what they ask, what they see of each fault, and how they recover.

mod faults;
mod help;
mod records;
mod resources;
mod restarts;
mod scale;
mod watches;
