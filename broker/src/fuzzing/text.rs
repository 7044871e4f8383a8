//! Text from people: configurations, endpoints, questions.

use crate::Core;
use crate::config::{Config, ConfigErrors, Endpoint, Kind, ProxyConfig};
use crate::ids::ConnId;
use std::time::Instant;

/// Reads `data` as a configuration. Each error is one line that names the file, in the order of the
/// text; a legal configuration makes a broker.
#[expect(
    clippy::disallowed_methods,
    reason = "any instant works: no time passes"
)]
pub fn fuzz_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::from_toml(&text, "fuzz.toml") {
        Err(errors) => {
            let mut line_before = 0;
            for error in errors.iter() {
                let sentence = error.to_string();
                assert!(sentence.starts_with("fuzz.toml"), "{sentence}");
                assert!(!sentence.contains('\n'), "{sentence}");
                assert!(error.line <= text.lines().count() + 1, "{sentence}");
                assert!(error.line >= line_before, "{errors}");
                line_before = error.line;
            }
            assert!((1..=ConfigErrors::COUNT_MAX).contains(&errors.iter().count()));
        }
        Ok(config) => {
            assert_eq!(config.check(), Ok(()));
            drop(Core::new(Instant::now(), &config, 1));
        }
    }
}

/// Reads `data` as an endpoint, to bind and to connect to. A legal one is displayed in a form with
/// the same meaning.
pub fn fuzz_endpoint(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for parse in [Endpoint::parse_bind, Endpoint::parse_connect] {
        match parse(&text) {
            Ok(endpoint) => assert_eq!(parse(&endpoint.to_string()), Ok(endpoint)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Asks a control the question in `data`. The answer is an object in JSON.
#[expect(
    clippy::disallowed_methods,
    reason = "any instant works: no peer is connected"
)]
pub fn fuzz_query(data: &[u8]) {
    let kind = Kind::from_name("forwarder").expect("a kind of the table");
    let config = Config {
        proxies: vec![ProxyConfig::new(kind, "fuzz")],
        ..Config::default()
    };
    let asker = ConnId {
        generation: 0,
        slot: 0,
    };
    let mut core = Core::new(Instant::now(), &config, 1);
    let proxy = core.proxies().next().expect("one is configured");
    let answer = core.answer_query(asker, proxy, data);
    // A reload is answered later.
    let Some(answer) = answer else {
        return;
    };
    let text = std::str::from_utf8(&answer).expect("an answer is UTF-8");
    assert!(!text.contains(zmtp::is_hidden));
    assert!(answer.len() < 4096, "the question is truncated");
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer is JSON");
    assert!(answer.is_object());
}
