//! The functions of `wasmcloud:messaging/consumer`. In: calls of a guest. Out: messages sent, and answers to requests.

use crate::handler::{BrokerMessage, ReplyTo};
use crate::publish::Publisher;
use heddle_capability::Ctx;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

type Store<'a> = StoreContextMut<'a, Ctx>;

/// Adds `wasmcloud:messaging/consumer`.
pub(crate) fn consumer(publisher: Arc<Publisher>, linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    let asked = Arc::clone(&publisher);
    linker.func_wrap_async(
        "request",
        move |_: Store<'_>, (subject, body, timeout_ms): (String, Vec<u8>, u32)| {
            let publisher = Arc::clone(&asked);
            Box::new(async move {
                let timeout = Duration::from_millis(u64::from(timeout_ms));
                Ok((publisher.request(subject, body, timeout).await,))
            })
        },
    )?;
    linker.func_wrap_async("publish", move |store: Store<'_>, (message,): (BrokerMessage,)| {
        let publisher = Arc::clone(&publisher);
        // The one subject beside those that are lent: where the message that is being handled asks to be answered.
        let reply_to = store.data().slots.get::<ReplyTo>();
        let is_answer = reply_to.is_some_and(|reply_to| reply_to.0.as_deref() == Some(message.subject.as_str()));
        Box::new(async move { Ok((publisher.publish(message, is_answer).await,)) })
    })
}
