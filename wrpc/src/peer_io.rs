//! The byte streams of a typed call.
//!
//! In: what arrives in a call's slot. Out: `AsyncRead` and `AsyncWrite` for the main channel and for each stream inside
//! the call. All of them end at the call's deadline, and with its typed error (see `call_error`).

use crate::connection::Shared;
use crate::error::{CallError, Fault, io};
use crate::mux::Registration;
use crate::serve::Answer;
use crate::slot::{Side, Slot};
use async_nats::Subject;
use async_nats::message::OutboundMessage;
use bytes::Bytes;
use futures::Sink as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What the streams of one call share; the call is over when the last of them is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    shared: Arc<Shared>,
    registration: Registration,
    /// Where results go, at the callee.
    reply: Option<Subject>,
    /// Something was written to the results, or they were closed.
    answered: AtomicBool,
    answer: Mutex<Option<Answer>>,
}

impl Call {
    pub(crate) fn new(shared: Arc<Shared>, registration: Registration, answer: Option<Answer>) -> Self {
        let reply = answer.as_ref().map(|answer| answer.reply.clone());
        Self {
            shared,
            registration,
            reply,
            answered: AtomicBool::new(false),
            answer: Mutex::new(answer),
        }
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        self.registration.slot()
    }

    /// Results have begun: from now on a fault is no answer any more.
    fn answered(&self) {
        if !self.answered.swap(true, Ordering::Relaxed)
            && let Some(mut answer) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            answer.given = true;
        }
    }
}

#[derive(Debug, Default)]
struct Timer {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(at: Option<Instant>) -> Self {
        Self { at, sleep: None }
    }

    /// Ready when the time is up; asked only when there is nothing else to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        sleep.as_mut().poll(cx)
    }
}

/// Bytes that arrive: the results at a caller, the arguments at a callee, or a stream inside them.
#[derive(Debug)]
pub struct Reader {
    call: Arc<Call>,
    path: Box<[usize]>,
    buffer: Bytes,
    timer: Timer,
    /// When the streams end.
    deadline: Option<Instant>,
}

impl Reader {
    pub(crate) fn new(call: Arc<Call>, first: Bytes, until: Option<Instant>, deadline: Option<Instant>) -> Self {
        Self {
            call,
            path: Box::default(),
            buffer: first,
            timer: Timer::new(until),
            deadline,
        }
    }
}

fn joined(path: &[usize], more: &[usize]) -> anyhow::Result<Box<[usize]>> {
    anyhow::ensure!(!more.is_empty(), "failed to find a stream: its path is empty");
    Ok(path.iter().chain(more).copied().collect())
}

impl wrpc_transport::Index<Self> for Reader {
    fn index(&self, path: &[usize]) -> anyhow::Result<Self> {
        Ok(Self {
            call: self.call.clone(),
            path: joined(&self.path, path)?,
            buffer: Bytes::new(),
            timer: Timer::new(self.deadline),
            deadline: self.deadline,
        })
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.buffer.is_empty() {
            let this = &mut *self;
            match this.call.slot().poll_next(&this.path, cx) {
                Poll::Ready(Ok(Some(bytes))) => this.buffer = bytes,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(io(&failure))),
                Poll::Pending => {
                    ready!(this.timer.poll(cx));
                    return Poll::Ready(Err(io(&CallError::Deadline)));
                }
            }
        }
        let bytes = self.buffer.len().min(buf.remaining());
        buf.put_slice(&self.buffer.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

/// Bytes that leave: the results of a callee, or a stream inside arguments or results. The synchronous arguments have
/// left with the call, so the main channel of a caller takes nothing.
#[derive(Debug)]
pub struct Writer {
    call: Arc<Call>,
    client: async_nats::Client,
    path: Box<[usize]>,
    subject: Option<Subject>,
    timer: Timer,
    deadline: Option<Instant>,
    closed: bool,
}

impl Writer {
    pub(crate) fn params(call: Arc<Call>, deadline: Option<Instant>) -> Self {
        Self::new(call, None, Box::default(), deadline)
    }

    pub(crate) fn results(call: Arc<Call>, deadline: Option<Instant>) -> Self {
        let subject = call
            .reply
            .as_ref()
            .map(|reply| Subject::from(format!("{reply}.results")));
        Self::new(call, subject, Box::default(), deadline)
    }

    fn new(call: Arc<Call>, subject: Option<Subject>, path: Box<[usize]>, deadline: Option<Instant>) -> Self {
        let client = call.shared.client.clone();
        Self {
            call,
            client,
            path,
            subject,
            timer: Timer::new(deadline),
            deadline,
            closed: false,
        }
    }

    /// The arguments of a caller are complete from the start.
    fn is_complete(&self) -> bool {
        self.path.is_empty() && self.call.slot().side() == Side::Caller
    }

    fn poll_subject(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Subject>> {
        if let Some(subject) = &self.subject {
            return Poll::Ready(Ok(subject.clone()));
        }
        match self.call.slot().poll_peer(cx) {
            Poll::Ready(Ok(peer)) => {
                let mut subject = format!("{}.params", peer.inbox);
                for step in &self.path {
                    subject.push('.');
                    subject.push_str(&step.to_string());
                }
                let subject = Subject::from(subject);
                self.subject = Some(subject.clone());
                Poll::Ready(Ok(subject))
            }
            Poll::Ready(Err(failure)) => Poll::Ready(Err(io(&failure))),
            Poll::Pending => {
                ready!(self.timer.poll(cx));
                Poll::Ready(Err(io(&CallError::Deadline)))
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<std::io::Result<()>> {
        let subject = ready!(self.poll_subject(cx))?;
        ready!(Pin::new(&mut self.client).poll_ready(cx)).map_err(broken)?;
        let payload = Bytes::copy_from_slice(payload);
        let message = OutboundMessage {
            subject,
            reply: None,
            payload,
            headers: None,
        };
        Pin::new(&mut self.client).start_send(message).map_err(broken)?;
        if self.path.is_empty() {
            self.call.answered();
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: impl std::fmt::Display) -> std::io::Error {
    io(&crate::error::connection(error))
}

impl wrpc_transport::Index<Self> for Writer {
    fn index(&self, path: &[usize]) -> anyhow::Result<Self> {
        let path_within = joined(&self.path, path)?;
        let subject = self.call.reply.as_ref().map(|reply| {
            let steps: String = path_within.iter().map(|step| format!(".{step}")).collect();
            Subject::from(format!("{reply}.results{steps}"))
        });
        Ok(Self::new(self.call.clone(), subject, path_within, self.deadline))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.closed || self.is_complete() {
            let text = "the bytes of this channel are complete: only streams inside the call take more";
            return Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text)));
        }
        if let Some(failure) = self.call.slot().failure() {
            return Poll::Ready(Err(io(&failure)));
        }
        // Results that fit go whole; larger ones in pieces between which other calls come.
        let most = self.client.max_payload().max(1);
        let bytes = if buf.len() <= most {
            buf.len()
        } else {
            self.call.shared.chunk_bytes_max()
        };
        ready!(self.poll_send(cx, &buf[..bytes]))?;
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.closed && !self.is_complete() {
            ready!(self.poll_send(cx, &[]))?;
            self.closed = true;
        }
        self.poll_flush(cx)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.closed || self.is_complete() {
            return;
        }
        if self.path.is_empty() && !self.call.answered.load(Ordering::Relaxed) {
            let answer = self.call.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(answer) = answer {
                answer.refuse_begun(&Fault::Failed("it ended the call without results".to_owned()));
            }
            return;
        }
        if let Some(subject) = self.subject.take() {
            self.call.registration.mux().post(subject, None);
        }
    }
}
