//! Points at which tests make the process die, to prove that nothing is lost or half-visible whenever that happens.

/// Aborts the process when the environment variable `ORCHESTRATE_FAULT` is `name`.
pub(super) fn fault_point(name: &str) {
    if std::env::var_os("ORCHESTRATE_FAULT").is_some_and(|fault| fault == name) {
        std::process::abort();
    }
}
