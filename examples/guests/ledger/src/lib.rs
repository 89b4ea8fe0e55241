//! Keeps entries in a Postgres database. In: `POST /…/<account>?amount=<n>` books an amount, `GET /…/<account>` asks for
//! the balance. Out: the account's balance as a line of text. Names of accounts go to the database as parameters, so they
//! may be anything.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "ledger", generate_all });
}

use imports::wasmcloud::postgres::query::{query, query_batch};
use imports::wasmcloud::postgres::types::{PgValue, QueryError};

wasip2::http::proxy::export!(Ledger);

struct Ledger;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS entries (account text NOT NULL, amount bigint NOT NULL)";
const BOOK: &str = "INSERT INTO entries (account, amount) VALUES ($1, $2)";
const BALANCE: &str = "SELECT coalesce(sum(amount), 0)::bigint AS balance FROM entries WHERE account = $1";
/// What Postgres says when a table is not there.
const NO_TABLE: &str = "42P01";

impl Guest for Ledger {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, arguments) = target.split_once('?').unwrap_or((&target, ""));
        let account = path.rsplit('/').next().unwrap_or_default();
        let answer = match request.method() {
            Method::Get => balance(account),
            Method::Post => match arguments.strip_prefix("amount=").map(str::parse) {
                Some(Ok(amount)) => book(account, amount).and_then(|()| balance(account)),
                _ => return respond(out, 400, "say how much, such as ?amount=5\n"),
            },
            _ => return respond(out, 405, "only GET and POST are answered here\n"),
        };
        match answer {
            Ok(balance) => respond(out, 200, &format!("{balance}\n")),
            Err(error) => respond(out, 500, &format!("failed to ask the database: {error:?}\n")),
        }
    }
}

fn balance(account: &str) -> Result<i64, QueryError> {
    let rows = match query(BALANCE, &[PgValue::Text(account.to_owned())]) {
        Err(QueryError::InvalidQuery(why)) if why.starts_with(NO_TABLE) => return Ok(0),
        rows => rows?,
    };
    match rows.first().and_then(|row| row.first()).map(|entry| &entry.value) {
        Some(PgValue::Int8(balance)) => Ok(*balance),
        other => Err(QueryError::Unexpected(format!("no balance but {other:?}"))),
    }
}

fn book(account: &str, amount: i64) -> Result<(), QueryError> {
    let entry = [PgValue::Text(account.to_owned()), PgValue::Int8(amount)];
    match query(BOOK, &entry) {
        Err(QueryError::InvalidQuery(why)) if why.starts_with(NO_TABLE) => {
            query_batch(TABLE)?;
            query(BOOK, &entry).map(|_| ())
        }
        booked => booked.map(|_| ()),
    }
}

fn respond(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                // The caller went away; nobody is left to tell.
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
