//! Heartbeats: what services send about themselves.

use serde_json::{Map, Value};
use zmtp::is_hidden;

use crate::config::SignConfig;
use crate::limits::NAME_SIZE_MAX;

/// A heartbeat, or any other object that shows that data flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The type of the object; `heartbeat` if it has none.
    pub kind: String,
    /// The name of the service, if it says so.
    pub service: Option<String>,
}

/// The type of an object without one.
const USUAL: &str = "heartbeat";

impl Heartbeat {
    /// The heartbeat in a JSON object; [`None`] if its `type` or `service` is not a short text, has
    /// hidden characters, or if the type is one of the topics of events.
    #[must_use]
    pub fn from_object(object: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) if is_name(text) => Some(Some(text.clone())),
            Some(_) => None,
        };
        let kind = text("type")?.unwrap_or_else(|| USUAL.to_owned());
        let service = text("service")?;
        (!kind.starts_with("watch/")).then_some(Self { kind, service })
    }

    /// The heartbeat in a frame of a ZeroMQ message: the name of a service, or an object.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        if frame.first() == Some(&b'{') {
            let object = serde_json::from_slice(frame).ok()?;
            return Self::from_object(&object);
        }
        let name = str::from_utf8(frame).ok().filter(|name| is_name(name))?;
        Some(Self {
            kind: USUAL.to_owned(),
            service: Some(name.to_owned()),
        })
    }

    /// Whether a watch with this sign waits for it.
    pub(super) fn is_for(&self, sign: &SignConfig) -> bool {
        let SignConfig::Heartbeat { kind, service } = sign else {
            return false;
        };
        let is_kind = kind.as_ref().is_none_or(|kind| *kind == self.kind);
        is_kind && (service.is_none() || *service == self.service)
    }

    /// Whether its names are as short as they must be.
    pub(crate) fn is_short(&self) -> bool {
        is_name(&self.kind) && self.service.as_deref().is_none_or(is_name)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_SIZE_MAX && !text.contains(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(kind: Option<&str>, service: Option<&str>) -> SignConfig {
        SignConfig::Heartbeat {
            kind: kind.map(str::to_owned),
            service: service.map(str::to_owned),
        }
    }

    fn is_for(frame: &str, sign: &SignConfig) -> Option<bool> {
        Heartbeat::from_frame(frame.as_bytes()).map(|heartbeat| heartbeat.is_for(sign))
    }

    #[test]
    fn a_name_or_an_object_is_a_heartbeat() {
        let camera = sign(None, Some("camera"));
        assert_eq!(is_for("camera", &camera), Some(true));
        assert_eq!(is_for("lidar", &camera), Some(false));
        assert_eq!(is_for(r#"{"service": "camera"}"#, &camera), Some(true));
        assert_eq!(is_for(r#"{"time": 1}"#, &camera), Some(false));
        assert_eq!(is_for(r#"{"time": 1}"#, &sign(None, None)), Some(true));
    }

    #[test]
    fn types_feed_different_watches() {
        let (lives, flows) = (sign(Some("heartbeat"), None), sign(Some("poiid"), None));
        let heartbeat = r#"{"type": "heartbeat", "time": "2024-07-01 12:00:00"}"#;
        let data = r#"{"type": "poiid", "time": "2024-07-01 12:00:00", "dat": [1]}"#;
        assert_eq!(is_for(heartbeat, &lives), Some(true));
        assert_eq!(is_for(heartbeat, &flows), Some(false));
        assert_eq!(is_for(data, &lives), Some(false));
        assert_eq!(is_for(data, &flows), Some(true));
    }

    #[test]
    fn strange_names_are_refused() {
        let long = format!("{{\"type\": \"{}\"}}", "x".repeat(NAME_SIZE_MAX + 1));
        for frame in [
            "",
            "a\nb",
            r#"{"type": 1}"#,
            r#"{"type": ""}"#,
            r#"{"type": "\u001b[2J"}"#,
            r#"{"service": []}"#,
            r#"{"type": "watch/down"}"#,
            "{",
            &long,
        ] {
            assert_eq!(Heartbeat::from_frame(frame.as_bytes()), None, "{frame}");
        }
    }
}
