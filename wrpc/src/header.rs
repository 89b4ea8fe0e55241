//! The headers that two peers of ours add to the wire; other peers do not look at them.
//!
//! In: lengths, times, faults. Out: header maps, and what a header map of any peer means. Nothing in a header is
//! trusted beyond its own call.

use crate::error::{CallError, Fault, one_line};
use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use std::str::FromStr as _;
use std::time::Duration;

/// On a call: how many bytes the synchronous arguments have. Its presence says that the caller understands the rest.
pub(crate) const PARAMS: HeaderName = HeaderName::from_static("Heddle-Params");
/// On a call: how many milliseconds the caller still waits.
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("Heddle-Deadline-Ms");
/// On results: how many bytes they have, so that no closing message is needed.
pub(crate) const RESULTS: HeaderName = HeaderName::from_static("Heddle-Results");
/// On results that are none: which fault.
pub(crate) const FAULT: HeaderName = HeaderName::from_static("Heddle-Error");
/// Beside `FAULT`: a sentence, or the numbers of `too-large`.
pub(crate) const FAULT_TEXT: HeaderName = HeaderName::from_static("Heddle-Error-Text");
/// On an accepted call: the callee's inbox takes a cancel.
pub(crate) const ACCEPT: HeaderName = HeaderName::from_static("Heddle-Accept");
/// To the callee's inbox: nobody waits any more.
pub(crate) const CANCEL: HeaderName = HeaderName::from_static("Heddle-Cancel");

/// What a caller may wait at most, whatever its header says.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the headers of a call say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallHeader {
    /// Bytes of the synchronous arguments.
    pub(crate) params: u64,
    /// How long the caller waits.
    pub(crate) within: Option<Duration>,
}

/// The headers of a call.
pub(crate) fn call(headers: &mut HeaderMap, params: usize, within: Option<Duration>) {
    headers.insert(PARAMS, HeaderValue::from(params as u64));
    if let Some(within) = within {
        let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        headers.insert(DEADLINE, HeaderValue::from(ms.max(1)));
    }
}

/// What the headers of an incoming call say, if the caller is a peer of ours.
pub(crate) fn read_call(headers: Option<&HeaderMap>) -> Option<CallHeader> {
    let headers = headers?;
    let params = number(headers, PARAMS)?;
    let within = number(headers, DEADLINE).map(|ms| Duration::from_millis(ms).min(DEADLINE_MAX));
    Some(CallHeader { params, within })
}

/// One header with one value.
pub(crate) fn one(name: HeaderName, value: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from(value));
    headers
}

/// The number in a header.
pub(crate) fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.as_str().trim().parse().ok()
}

/// Whether a header is there.
pub(crate) fn has(headers: Option<&HeaderMap>, name: HeaderName) -> bool {
    headers.is_some_and(|headers| headers.get(name).is_some())
}

/// The headers of a fault.
pub(crate) fn fault(fault: &Fault) -> HeaderMap {
    let (kind, text) = match fault {
        Fault::Refused(text) => ("refused", one_line(text)),
        Fault::Failed(text) => ("failed", one_line(text)),
        Fault::Deadline => ("deadline", String::new()),
        Fault::Protocol(text) => ("protocol", one_line(text)),
        Fault::TooLarge { bytes, limit } => ("too-large", format!("{bytes} {limit}")),
    };
    let mut headers = HeaderMap::new();
    headers.insert(FAULT, kind);
    // The text has no line breaks, so it is always a value.
    if let Ok(text) = HeaderValue::from_str(&text)
        && !text.as_str().is_empty()
    {
        headers.insert(FAULT_TEXT, text);
    }
    headers
}

/// The fault in the headers of results, if there is one.
pub(crate) fn read_fault(headers: &HeaderMap) -> Option<CallError> {
    let kind = headers.get(FAULT)?.as_str().trim().to_owned();
    let text = headers
        .get(FAULT_TEXT)
        .map(|text| one_line(text.as_str()))
        .unwrap_or_default();
    Some(match kind.as_str() {
        "refused" => CallError::Refused(text),
        "failed" => CallError::Failed(text),
        "deadline" => CallError::Deadline,
        "protocol" => CallError::Protocol(text),
        "too-large" => {
            let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0));
            CallError::TooLarge {
                what: "arguments or results",
                bytes: numbers.next().unwrap_or(0),
                limit: numbers.next().unwrap_or(0),
            }
        }
        // A newer peer has faults that this one does not know.
        other => CallError::Failed(one_line(&format!("{other}: {text}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_back_as_its_own_error() {
        let cases = [
            (Fault::Refused("full".into()), CallError::Refused("full".into())),
            (Fault::Failed("trap\r\nat".into()), CallError::Failed("trap  at".into())),
            (Fault::Deadline, CallError::Deadline),
            (Fault::Protocol("odd".into()), CallError::Protocol("odd".into())),
            (
                Fault::TooLarge { bytes: 9, limit: 8 },
                CallError::TooLarge {
                    what: "arguments or results",
                    bytes: 9,
                    limit: 8,
                },
            ),
        ];
        for (fault, expected) in cases {
            assert_eq!(read_fault(&super::fault(&fault)), Some(expected));
        }
    }

    #[test]
    fn a_deadline_of_a_peer_is_bounded_and_an_odd_one_is_none() {
        let mut headers = HeaderMap::new();
        call(&mut headers, 7, Some(Duration::MAX));
        assert_eq!(
            read_call(Some(&headers)),
            Some(CallHeader {
                params: 7,
                within: Some(DEADLINE_MAX)
            })
        );
        headers.insert(DEADLINE, "soon");
        assert_eq!(
            read_call(Some(&headers)),
            Some(CallHeader {
                params: 7,
                within: None
            })
        );
        headers.insert(PARAMS, "-1");
        assert_eq!(read_call(Some(&headers)), None);
        assert_eq!(read_call(None), None);
    }
}
