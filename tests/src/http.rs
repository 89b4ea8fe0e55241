//! The smallest HTTP client that tests need: one request on one connection.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// A host on the same machine that does not answer by then does not serve.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    /// Where it sends its reader, if anywhere.
    pub location: Option<String>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as text, if the status is 200.
    pub fn ok(&self) -> Result<String> {
        anyhow::ensure!(
            self.status == StatusCode::OK,
            "status {}: {}",
            self.status,
            self.text().trim()
        );
        Ok(self.text())
    }
}

/// Asks for a path; the `Host` header is the address unless another one is named.
pub async fn get(address: SocketAddr, path: &str, host_header: Option<&str>) -> Result<Answer> {
    send(address, "GET", path, host_header, Bytes::new()).await
}

/// Sends a request and reads the whole answer.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    host_header: Option<&str>,
    body: Bytes,
) -> Result<Answer> {
    let host = host_header.map_or_else(|| address.to_string(), str::to_owned);
    send_with(address, method, path, &[("host", &host)], body).await
}

/// Sends a request with headers of the caller's choice, `host` among them, and reads the whole answer.
pub async fn send_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer> {
    let asked = async {
        let stream = TcpStream::connect(address).await.context("connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("connection", "close");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let location = response.headers().get("location");
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok::<_, anyhow::Error>(Answer { status, body, location })
    };
    let answer = tokio::time::timeout(ANSWERS_WITHIN, asked).await;
    answer
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {ANSWERS_WITHIN:?}")))
        .with_context(|| format!("failed to {method} http://{address}{path}"))
}
