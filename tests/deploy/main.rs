//! Tests of `deploy/` with the tools that people use: helm, kubectl, promtool, and the schemas of Kubernetes. `make setup` installs them
//! in `target/tools`.

mod alerts;
mod build_context;
mod cel;
mod chart;
mod dashboard;
mod documents;
mod manifests;
mod metrics;
mod policy;
mod rights;
mod settings;
mod tools;
