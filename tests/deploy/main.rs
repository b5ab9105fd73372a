//! What is in `deploy/`, looked at with the tools that people use: helm, kubectl, promtool, and the schemas of Kubernetes. They come to
//! `target/tools` by `make setup`.

mod alerts;
mod chart;
mod dashboard;
mod documents;
mod manifests;
mod metrics;
mod rights;
mod settings;
mod tools;
