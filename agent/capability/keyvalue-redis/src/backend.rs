//! One scope of one Redis. In: calls with a guest's names. Out: the same on keys that begin with the scope.
//!
//! Values are plain strings of Redis, read at most up to the size that a guest may have stored: one that somebody else
//! left there cannot fill the agent's memory.

use crate::connection::{Connection, refused};
use async_trait::async_trait;
use heddle_capability_keyvalue::{ANSWER_BYTES_MAX, Backend, PAGE_KEYS, Page, Pair, Refused, VALUE_BYTES_MAX, token};
use redis::Pipeline;
use redis::aio::ConnectionManager;
use std::sync::Arc;

/// Values that are asked for in one go: as many as may be in one answer at their largest.
const VALUES_AT_ONCE: usize = ANSWER_BYTES_MAX / VALUE_BYTES_MAX;
/// Rounds over the keys of the server that one page may take where most keys are somebody else's.
const SCAN_ROUNDS_MAX: usize = 32;

/// One scope.
pub(crate) struct Scope {
    connection: Arc<Connection>,
    /// What the keys of all buckets of the scope begin with.
    prefix: String,
}

impl Scope {
    pub(crate) fn new(connection: Arc<Connection>, prefix: &str, scope: &str) -> Self {
        Self {
            connection,
            prefix: format!("{prefix}{}:", token(scope)),
        }
    }

    fn bucket(&self, bucket: &str) -> String {
        format!("{}{}:", self.prefix, token(bucket))
    }

    fn key(&self, bucket: &str, key: &str) -> String {
        format!("{}{key}", self.bucket(bucket))
    }
}

#[async_trait]
impl Backend for Scope {
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        let mut connection = self.connection.get().await?;
        let mut values = get_some(&mut connection, &[self.key(bucket, key)]).await?;
        Ok(values.pop().flatten())
    }

    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), Refused> {
        let mut connection = self.connection.get().await?;
        let mut set = redis::cmd("SET");
        set.arg(self.key(bucket, key)).arg(value);
        set.exec_async(&mut connection).await.map_err(refused)
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<(), Refused> {
        self.delete_many(bucket, &[key.to_owned()]).await
    }

    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, Refused> {
        let mut connection = self.connection.get().await?;
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.key(bucket, key));
        exists.query_async(&mut connection).await.map_err(refused)
    }

    async fn list(&self, bucket: &str, cursor: Option<u64>) -> Result<Page, Refused> {
        let mut connection = self.connection.get().await?;
        let prefix = self.bucket(bucket);
        let pattern = format!("{}*", literal(&prefix));
        let (mut keys, mut next) = (Vec::new(), cursor.unwrap_or(0));
        for _ in 0..SCAN_ROUNDS_MAX {
            let mut scan = redis::cmd("SCAN");
            scan.arg(next).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE_KEYS);
            let (after, found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await.map_err(refused)?;
            // What is no text was not stored by a guest.
            let mine = |key: Vec<u8>| Some(String::from_utf8(key).ok()?.strip_prefix(&prefix)?.to_owned());
            keys.extend(found.into_iter().filter_map(mine));
            next = after;
            // Redis may give twice what was asked for, never much more.
            if next == 0 || keys.len() >= PAGE_KEYS {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        Ok(Page {
            keys,
            next: Some(next).filter(|next| *next != 0),
        })
    }

    async fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64, Refused> {
        // Numbers of Redis are signed.
        let delta = i64::try_from(delta).map_err(|_| Refused::Overflow)?;
        let mut connection = self.connection.get().await?;
        let mut increment = redis::cmd("INCRBY");
        increment.arg(self.key(bucket, key)).arg(delta);
        let after: i64 = increment.query_async(&mut connection).await.map_err(|error| {
            let text = error.to_string();
            if text.contains("would overflow") {
                Refused::Overflow
            } else if text.contains("not an integer") || error.code() == Some("WRONGTYPE") {
                Refused::NoNumber(key.to_owned())
            } else {
                refused(error)
            }
        })?;
        u64::try_from(after).map_err(|_| Refused::NoNumber(key.to_owned()))
    }

    async fn get_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Pair>>, Refused> {
        let mut connection = self.connection.get().await?;
        let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for some in keys.chunks(VALUES_AT_ONCE) {
            let names: Vec<String> = some.iter().map(|key| self.key(bucket, key)).collect();
            let values = get_some(&mut connection, &names).await?;
            for (key, value) in some.iter().zip(values) {
                bytes += value.as_ref().map_or(0, |value| key.len() + value.len());
                if bytes > ANSWER_BYTES_MAX {
                    return Err(Refused::Answer);
                }
                found.push(value.map(|value| (key.clone(), value)));
            }
        }
        Ok(found)
    }

    async fn set_many(&self, bucket: &str, pairs: Vec<Pair>) -> Result<(), Refused> {
        if pairs.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.get().await?;
        let mut set = redis::cmd("MSET");
        for (key, value) in pairs {
            set.arg(self.key(bucket, &key)).arg(value);
        }
        set.exec_async(&mut connection).await.map_err(refused)
    }

    async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<(), Refused> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.get().await?;
        let mut delete = redis::cmd("DEL");
        for key in keys {
            delete.arg(self.key(bucket, key));
        }
        delete.exec_async(&mut connection).await.map_err(refused)
    }
}

/// Some values, as one step. An empty range of a key that is there is another thing than a key that is not.
async fn get_some(connection: &mut ConnectionManager, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, Refused> {
    let mut ask = Pipeline::new();
    ask.atomic();
    for name in names {
        ask.cmd("EXISTS").arg(name);
        ask.cmd("GETRANGE").arg(name).arg(0).arg(VALUE_BYTES_MAX);
    }
    let answers: Vec<redis::Value> = ask.query_async(connection).await.map_err(refused)?;
    let mut values = Vec::with_capacity(names.len());
    for answer in answers.chunks(2) {
        let odd = || Refused::Unavailable("Redis answers something else than was asked for".to_owned());
        let (redis::Value::Int(there), redis::Value::BulkString(value)) =
            answer.first().zip(answer.get(1)).ok_or_else(odd)?
        else {
            return Err(odd());
        };
        if value.len() > VALUE_BYTES_MAX {
            return Err(Refused::Value(value.len()));
        }
        values.push((*there == 1).then(|| value.clone()));
    }
    Ok(values)
}

/// Text as a pattern that only this text matches.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
