//! The endpoint that a wrong text was probably meant to be.

use super::Endpoint;

/// The endpoint that a text without a transport probably means. [`None`] if the text is ambiguous,
/// or the endpoint would be illegal.
pub(super) fn without_transport(text: &str) -> Option<String> {
    let bare = text.strip_prefix("//").unwrap_or(text);
    let is_path = text.starts_with(['/', '.', '~']) && !text.starts_with("//");
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let guess = if is_path || text.starts_with('@') {
        format!("ipc://{text}")
    } else if is_port(bare.trim_start_matches(':')) {
        format!("tcp://127.0.0.1:{}", bare.trim_start_matches(':'))
    } else if bare.contains(':') {
        format!("tcp://{bare}")
    } else {
        return None;
    };
    guess.parse::<Endpoint>().is_ok().then_some(guess)
}

/// The endpoint that `tcp://TEXT` without a port probably means.
pub(super) fn without_port(text: &str) -> String {
    let text = text.trim_end_matches(':');
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    let guess = match port {
        Some(port) => format!("tcp://127.0.0.1:{port}"),
        None => format!("tcp://{text}:5559"),
    };
    if !text.is_empty() && guess.parse::<Endpoint>().is_ok() {
        guess
    } else {
        "tcp://127.0.0.1:5559".to_owned()
    }
}
