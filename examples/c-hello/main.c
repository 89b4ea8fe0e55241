// A guest in C. In: any HTTP request. Out: `hello from C` as plain text.
//
// `http_handler.h` is generated from the world `http-handler` (examples/guests/wit/worlds.wit) when the guest is built;
// everything called `wasi_…` comes from there. Functions that may fail return false, and write why where their last
// argument points.

#include <string.h>

#include "http_handler.h"

static const char TEXT[] = "hello from C\n";

// The bindings take bytes through pointers that are not const, but do not write to them.
static wasi_http_types_own_headers_t plain_text_headers(void) {
    wasi_http_types_own_fields_t headers = wasi_http_types_constructor_fields();
    wasi_http_types_field_name_t name = {(uint8_t *)"content-type", strlen("content-type")};
    wasi_http_types_field_value_t value = {(uint8_t *)"text/plain", strlen("text/plain")};
    wasi_http_types_list_field_value_t values = {&value, 1};
    wasi_http_types_header_error_t error;
    // A fresh set of fields takes any well-formed header.
    (void)wasi_http_types_method_fields_set(wasi_http_types_borrow_fields(headers), &name, &values, &error);
    return headers;
}

static void write_text(wasi_http_types_borrow_outgoing_body_t body) {
    wasi_http_types_own_output_stream_t stream;
    if (!wasi_http_types_method_outgoing_body_write(body, &stream)) {
        return;
    }
    http_handler_list_u8_t bytes = {(uint8_t *)TEXT, strlen(TEXT)};
    wasi_io_streams_stream_error_t error;
    if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(
            wasi_io_streams_borrow_output_stream(stream), &bytes, &error)) {
        // The caller went away; nobody is left to tell.
        wasi_io_streams_stream_error_free(&error);
    }
    // A body may be finished only after its stream is dropped.
    wasi_io_streams_output_stream_drop_own(stream);
}

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t out) {
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(plain_text_headers());
    wasi_http_types_own_outgoing_body_t body;
    bool has_body =
        wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response), &body);

    // From here on the response is the host's; it sends the head while the body is written.
    wasi_http_types_result_own_outgoing_response_error_code_t answer = {.is_err = false, .val = {.ok = response}};
    wasi_http_types_static_response_outparam_set(out, &answer);

    if (has_body) {
        write_text(wasi_http_types_borrow_outgoing_body(body));
        wasi_http_types_error_code_t error;
        if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &error)) {
            wasi_http_types_error_code_free(&error);
        }
    }
    wasi_http_types_incoming_request_drop_own(request);
}
