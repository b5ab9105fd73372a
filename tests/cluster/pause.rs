//! The pause program of a pod's sandbox: it holds the pod's namespaces until it is killed.

fn main() {
    loop {
        std::thread::park();
    }
}
