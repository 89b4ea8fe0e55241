//! Whether URLs answer.

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long one answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Asks once with GET. Answered means: by the workload, not by a listener that does not know the path (404) or finds
/// nobody ready (503).
pub async fn answers(url: &str, host_header: Option<&str>) -> Result<(), String> {
    match tokio::time::timeout(ANSWERS_WITHIN, status(url, host_header)).await {
        Ok(Ok(status)) if is_answer(status) => Ok(()),
        Ok(Ok(status)) => Err(format!("{url} answers {status}")),
        Ok(Err(why)) => Err(format!("{url} does not answer: {why}")),
        Err(_) => Err(format!("{url} does not answer within {ANSWERS_WITHIN:?}")),
    }
}

fn is_answer(status: u16) -> bool {
    (200..500).contains(&status) && status != 404
}

async fn status(url: &str, host_header: Option<&str>) -> Result<u16, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
    let authority = uri.authority().ok_or("it names no host")?.as_str();
    let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // The connection ends with its sender, or with its own error, which the request tells as well.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let request = http::Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(http::header::HOST, host_header.unwrap_or(authority))
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(response.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_and_nobody_ready_are_no_answers() {
        for (status, answer) in [
            (200, true),
            (302, true),
            (400, true),
            (404, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(is_answer(status), answer, "{status}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_does_not_answer() {
        let port = super::super::port::free(1).unwrap()[0];
        let why = answers(&format!("http://{port}/x"), None).await.unwrap_err();
        assert!(why.contains("does not answer"), "{why}");
    }
}
