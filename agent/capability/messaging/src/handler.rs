//! Calling `wasmcloud:messaging/handler.handle-message`. In: a message. Out: what came of it.

use heddle_capability::{CallFailure, Callable, Level, Work};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use wasmtime::component::{ComponentExportIndex, ComponentType, Lift, Lower};

const HANDLER: &str = "wasmcloud:messaging/handler@0.2.0";
const FUNCTION: &str = "handle-message";

/// `wasmcloud:messaging/types.broker-message`.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct BrokerMessage {
    pub(crate) subject: String,
    pub(crate) body: Vec<u8>,
    #[component(name = "reply-to")]
    pub(crate) reply_to: Option<String>,
}

/// Where the message that an instance handles asks to be answered; kept in the instance's store.
#[derive(Debug, Default)]
pub(crate) struct ReplyTo(pub(crate) Option<String>);

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The handler took it.
    Done,
    /// The handler said that it could not.
    Refused(String),
    /// The call came to nothing.
    Failed(CallFailure),
}

/// The handler of one component.
pub(crate) struct Handler {
    pub(crate) component: Arc<dyn Callable>,
    function: ComponentExportIndex,
}

impl Handler {
    /// The component's handler, if it exports one.
    pub(crate) fn find(component: Arc<dyn Callable>) -> Option<Self> {
        let code = component.code();
        let interface = code.get_export_index(None, HANDLER)?;
        let function = code.get_export_index(Some(&interface), FUNCTION)?;
        Some(Self { component, function })
    }

    /// Hands one message to an instance of its own.
    pub(crate) async fn handle(&self, message: BrokerMessage) -> Outcome {
        let answer = Arc::new(Mutex::new(None));
        let (kept, function) = (Arc::clone(&answer), self.function);
        let work: Work = Box::new(move |store, instance| {
            Box::pin(async move {
                store.data_mut().slots.get_or_default::<ReplyTo>().0 = message.reply_to.clone();
                let handle =
                    instance.get_typed_func::<(BrokerMessage,), (Result<(), String>,)>(&mut *store, function)?;
                let (answer,) = handle.call_async(&mut *store, (message,)).await?;
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                Ok(())
            })
        });
        let deadline = Instant::now() + self.component.time_limit();
        if let Err(failure) = Arc::clone(&self.component).call(deadline, work).await {
            return Outcome::Failed(failure);
        }
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match answer {
            Some(Ok(())) => Outcome::Done,
            Some(Err(reason)) => Outcome::Refused(reason),
            None => Outcome::Failed(CallFailure::Trapped("it ended without an answer".to_owned())),
        }
    }

    /// Tells the workload's own log.
    pub(crate) fn tell(&self, level: Level, text: &str) {
        if let Some(log) = self.component.log() {
            log.write(level, text);
        }
    }
}
