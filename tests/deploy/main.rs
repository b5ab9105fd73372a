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
mod names;
mod platforms;
mod policy;
mod previous;
mod release;
mod rights;
mod settings;
mod tools;
mod values;
