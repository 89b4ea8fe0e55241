//! One field out of a secret that has several: the rule that all backends with fields share.
//!
//! In: a secret's fields as JSON, and the name of one or none. Out: that field's bytes. Text is taken as it is; numbers
//! and booleans as JSON writes them; lists and objects as their JSON.

use crate::backend::BackendError;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// A secret's fields. Their texts are wiped when they are dropped.
pub(crate) struct Fields(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.insert(name, plain(value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Take)
    }
}

/// The bytes of one value: what is between the quotes of a text, with its escapes undone.
fn plain(value: &RawValue) -> Zeroizing<Vec<u8>> {
    let text = value.get();
    match serde_json::from_str::<String>(text) {
        Ok(inner) => Zeroizing::new(inner.into_bytes()),
        Err(_) => Zeroizing::new(text.as_bytes().to_vec()),
    }
}

impl Fields {
    /// The field of that name, or the only one there is.
    pub(crate) fn pick(mut self, name: Option<&str>) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        match name {
            Some(name) => {
                let found = self.0.remove(name);
                found
                    .ok_or_else(|| BackendError::NotFound(format!("it has no field {name:?}; it has {}", self.names())))
            }
            None if self.0.len() == 1 => Ok(self.0.pop_first().map(|(_, value)| value).unwrap_or_default()),
            None => Err(BackendError::Malformed(format!(
                "it has {} fields; name one of them as `field`: {}",
                self.0.len(),
                self.names()
            ))),
        }
    }

    fn names(&self) -> String {
        /// Names in one message.
        const NAMES_MAX: usize = 20;
        let mut names: Vec<&str> = self.0.keys().take(NAMES_MAX).map(String::as_str).collect();
        match self.0.len() {
            0 => return "none".to_owned(),
            n if n > NAMES_MAX => names.push("…"),
            _ => {}
        }
        names.join(", ")
    }
}

/// Reads fields out of JSON.
pub(crate) fn read(json: &[u8]) -> Result<Fields, BackendError> {
    // The parser's own message may quote the text around an error: only where it is, is told.
    serde_json::from_slice(json).map_err(|e| malformed("it is no JSON object", &e))
}

/// A JSON error without any of the text that it is about.
pub(crate) fn malformed(what: &str, error: &serde_json::Error) -> BackendError {
    BackendError::Malformed(format!("{what} (line {}, column {})", error.line(), error.column()))
}

/// JSON bytes of a request that may hold something secret, wiped when dropped.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, BackendError> {
    serde_json::to_vec(value)
        .map(Zeroizing::new)
        .map_err(|e| malformed("a request cannot be written", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(json: &str, name: Option<&str>) -> Result<String, BackendError> {
        let value = read(json.as_bytes())?.pick(name)?;
        Ok(String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_named_field_is_taken_and_an_only_one_needs_no_name() {
        let two = r#"{"user":"ann","password":"a\"b\nc"}"#;
        assert_eq!(pick(two, Some("password")).unwrap(), "a\"b\nc");
        assert_eq!(pick(r#"{"port":5432}"#, None).unwrap(), "5432");
        assert_eq!(pick(r#"{"list":[1,2]}"#, Some("list")).unwrap(), "[1,2]");
    }

    #[test]
    fn what_is_refused_names_the_fields_and_none_of_their_values() {
        let two = r#"{"user":"ann","password":"sesame"}"#;
        for (name, wanted) in [(None, "password, user"), (Some("pin"), "no field \"pin\"")] {
            let error = pick(two, name).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains("sesame"), "{error}");
        }
        let error = pick(r#"["sesame"]"#, None).unwrap_err().to_string();
        assert!(!error.contains("sesame"), "{error}");
        assert!(pick("{}", None).is_err());
    }
}
