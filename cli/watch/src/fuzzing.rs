//! The body of the fuzz target for JSON streams; a test replays its seeds.

use serde_json::Value;

use crate::decoder::{Decoder, Flaw};
use crate::limits::OBJECT_SIZE_MAX;
use crate::watcher::Heartbeat;

/// Decodes bytes whole, byte by byte, and in segments whose sizes the first byte chooses: the
/// result is the same, every object is JSON again, and no more is kept than the limit.
///
/// # Panics
/// If one of these properties does not hold.
pub fn fuzz_stream(data: &[u8]) {
    let whole = decode(data, usize::MAX);
    let size = data.first().map_or(1, |first| usize::from(*first) + 1);
    for segment in [1, size] {
        assert_eq!(decode(data, segment), whole, "segments of {segment}");
    }
    for object in &whole.0 {
        let again: Value = serde_json::from_str(object).expect("it is JSON");
        let again = again.as_object().expect("it is an object");
        if let Some(heartbeat) = Heartbeat::from_object(again) {
            assert!(heartbeat.is_short());
        }
    }
}

fn decode(data: &[u8], segment: usize) -> (Vec<String>, Result<(), Flaw>) {
    let (mut decoder, mut objects) = (Decoder::default(), Vec::new());
    for part in data.chunks(segment.min(data.len().max(1))) {
        let outcome = decoder.handle_input(part, |object| {
            objects.push(Value::Object(object).to_string());
        });
        assert!(decoder.size() <= OBJECT_SIZE_MAX);
        if outcome.is_err() {
            return (objects, decoder.handle_end());
        }
    }
    assert_eq!(decoder.objects(), objects.len() as u64);
    let inside = decoder.is_inside();
    let end = decoder.handle_end();
    assert_eq!(end == Err(Flaw::Cut), inside);
    (objects, end)
}
