//! The test guest as version `v1`: tests of updates tell the versions apart by what `/version` answers.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wasip2::http::proxy::export!(Probe);

struct Probe;

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        probe::handle("v1", &request, out);
    }
}
