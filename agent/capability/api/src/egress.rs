//! What a guest may send to the outside by HTTP: nothing, unless it is granted. In: a request of a guest. Out: a
//! refusal that names the destination, in the guest's hands and in its log.

use crate::log::{Level, Log};
use std::sync::{Arc, OnceLock};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpHooks,
};

/// Refuses every outgoing request.
pub(crate) struct DenyOutgoing {
    pub(crate) log: Arc<Log>,
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl WasiHttpHooks for DenyOutgoing {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        // One filter for the whole process: this is asked for with every request.
        static FILTER: OnceLock<ForbiddenHeaderFilter> = OnceLock::new();
        Arc::clone(FILTER.get_or_init(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name))))
    }

    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let to = request
            .uri()
            .authority()
            .map_or("an unnamed host", |authority| authority.as_str());
        let text = format!(
            "failed to send {} to {to}: the workload may send nothing to the outside",
            request.method()
        );
        self.log.write(Level::Warn, &text);
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogLines;
    use bytes::Bytes;
    use heddle_protocol::id::{ComponentName, Generation, UnitId, WorkloadId};
    use http_body_util::BodyExt;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogLines for Kept {
        fn line(&self, _: &UnitId, _: &ComponentName, level: &str, text: &str) {
            self.0.lock().unwrap().push(format!("{level} {text}"));
        }
    }

    #[tokio::test]
    async fn an_outgoing_request_is_refused_and_its_destination_is_told() {
        let kept = Arc::new(Kept::default());
        let unit = UnitId {
            workload: WorkloadId::parse("cart").unwrap(),
            generation: Generation(1),
        };
        let log = Arc::new(Log::new(
            unit,
            ComponentName::parse("api").unwrap(),
            Arc::clone(&kept) as _,
        ));
        let nothing = http_body_util::Empty::<Bytes>::new().map_err(|never| match never {});
        let body = WasiBody::new(nothing);
        let request = http::Request::get("https://metadata.internal/secret")
            .body(body)
            .unwrap();
        let sent = DenyOutgoing { log }.send_request(request, None, Box::new(async { Ok(()) }));
        assert!(matches!(Box::into_pin(sent).await, Err(Error::HttpRequestDenied)));
        let text = kept.0.lock().unwrap().join("");
        assert!(
            text.contains("GET") && text.contains("metadata.internal") && !text.contains("secret"),
            "{text}"
        );
    }
}
