//! What answers a request, and the answers that the host gives itself. In: a request. Out: a response.
//!
//! A refusal says what happened in one short line and in a header that programs can read; it never says anything that
//! the guest said.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The header of every answer that the host gives in a guest's place: a [`Refusal`]'s code.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-heddle-error");

/// Something that serves requests: one component of one unit, say.
pub trait Endpoint: Clone + Send + Sync + 'static {
    /// The body of its responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Serves one request. Dropping the future cancels the call.
    fn handle(self, request: Request<Incoming>) -> impl Future<Output = Response<Reply<Self::Body>>> + Send;
}

/// The body of a response: a guest's, or one short text of the host's.
#[derive(Debug)]
pub enum Reply<B> {
    /// A text; `None` once it is sent.
    Text(Option<Bytes>),
    /// A guest's body.
    Guest(B),
}

impl<B: Body<Data = Bytes> + Unpin> Body for Reply<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Guest(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Guest(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Guest(body) => body.size_hint(),
        }
    }
}

/// Why the host answers in a guest's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// No route takes the request's host and path.
    NoRoute,
    /// A route takes host and path, none the method.
    MethodNotAllowed,
    /// The request names no host.
    NoHost,
    /// The route is there, and nothing behind it is ready.
    NotReady,
    /// The listener has as many connections as it may.
    TooManyConnections,
    /// The workload has as many calls in flight as it may.
    Overloaded,
    /// The host has no room for another instance.
    HostFull,
    /// The request's body is larger than a listener passes on.
    BodyTooLarge,
    /// The guest was not done in time.
    TimeLimit,
    /// The guest trapped.
    Trapped,
    /// The guest ended without an answer.
    NoResponse,
    /// The guest answered with an error instead of a response.
    GuestError,
    /// The component does not handle HTTP.
    NoHandler,
}

impl Refusal {
    /// The code in the `x-heddle-error` header.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::NoHost => "no-host",
            Self::NotReady => "not-ready",
            Self::TooManyConnections => "too-many-connections",
            Self::Overloaded => "overloaded",
            Self::HostFull => "host-full",
            Self::BodyTooLarge => "body-too-large",
            Self::TimeLimit => "time-limit",
            Self::Trapped => "trapped",
            Self::NoResponse => "no-response",
            Self::GuestError => "guest-error",
            Self::NoHandler => "no-handler",
        }
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::NotReady | Self::TooManyConnections | Self::Overloaded | Self::HostFull => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimeLimit => StatusCode::GATEWAY_TIMEOUT,
            Self::Trapped | Self::NoResponse | Self::GuestError | Self::NoHandler => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The text of the answer, with its line break.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRoute => "no workload is routed here\n",
            Self::MethodNotAllowed => "the workload here does not take this method\n",
            Self::NoHost => "the request names no host\n",
            Self::NotReady => "the workload is not ready; try again\n",
            Self::TooManyConnections => "the listener has too many connections; try again\n",
            Self::Overloaded => "the workload has too many calls in flight; try again\n",
            Self::HostFull => "the host has no room for another instance; try again\n",
            Self::BodyTooLarge => "the request's body is too large\n",
            Self::TimeLimit => "the workload did not answer in time\n",
            Self::Trapped => "the workload failed\n",
            Self::NoResponse => "the workload ended without an answer\n",
            Self::GuestError => "the workload answered with an error\n",
            Self::NoHandler => "the component does not handle HTTP\n",
        }
    }

    /// The answer. One that may be tried again says when.
    pub fn response<B>(self) -> Response<Reply<B>> {
        let mut response = Response::new(Reply::Text(Some(Bytes::from_static(self.text().as_bytes()))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.code()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The answer to a method that no route takes: with the methods that are taken.
pub(crate) fn method_not_allowed<B>(allow: &str) -> Response<Reply<B>> {
    let mut response = Refusal::MethodNotAllowed.response();
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}
