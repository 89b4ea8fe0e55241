//! What is really in the store, read beside the scheduler: the keys that live, and the audit of each commit.

use super::Fleet;
use anyhow::{Context as _, Result};
use async_nats::jetstream;
use futures::TryStreamExt as _;
use heddle_protocol::key::Key;

impl Fleet {
    /// The keys of a realm's state that live, in order.
    pub async fn keys(&self) -> Result<Vec<Key>> {
        let context = jetstream::new(self.client().nats().clone());
        let bucket = format!("heddle_{}", self.client().realm());
        let store = context
            .get_key_value(&bucket)
            .await
            .with_context(|| format!("failed to open bucket {bucket}"))?;
        let names: Vec<String> = store.keys().await.context("failed to list keys")?.try_collect().await?;
        let mut keys = Vec::new();
        for name in names {
            // A listing can name a key whose newest record is a delete marker.
            if let (Some(key), Some(_)) = (Key::parse(&name), store.get(&name).await?) {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// The number of the newest commit in the store.
    pub async fn head(&self) -> Result<u64> {
        let context = jetstream::new(self.client().nats().clone());
        let store = context
            .get_key_value(format!("heddle_{}", self.client().realm()))
            .await?;
        let head = store.get("head").await?.context("the store has no head")?;
        let head: serde_json::Value = serde_json::from_slice(&head)?;
        head["n"].as_u64().context("the head has no number")
    }
}
