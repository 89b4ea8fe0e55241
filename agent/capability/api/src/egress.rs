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
