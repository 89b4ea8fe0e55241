//! The two functions, on one connection. In: a statement and its parameters. Out: rows, within bounds, or a failure.

use crate::capped::WIRE_BYTES_MAX;
use crate::cell::Cell;
use crate::failure::Failure;
use crate::param::{Param, params};
use crate::pool::{Lease, Pool};
use crate::types::{PgValue, QueryError, ResultRowEntry};
use futures::TryStreamExt as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout_at;
use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{Client, Row, Statement};

/// Rows of one answer.
pub(crate) const ROWS_MAX: usize = 10_000;
/// All rows of one answer, in bytes as they are in memory: an answer is held twice while it is handed over.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;
/// One statement with its parameters, in bytes.
pub(crate) const STATEMENT_BYTES_MAX: usize = 8 << 20;

/// Rows as the interface has them.
pub(crate) type Rows = Vec<Vec<ResultRowEntry>>;

/// Runs one statement with parameters.
pub(crate) async fn query(
    pool: &Arc<Pool>,
    statement: &str,
    values: Vec<PgValue>,
    deadline: Instant,
) -> Result<Rows, QueryError> {
    let params = params(values)?;
    let bytes = statement.len() + params.iter().map(Param::bytes).sum::<usize>();
    within_bounds(bytes)?;
    let lease = pool.lease(deadline).await?;
    let mut reusable = true;
    let asked = async { ask(lease.client()?, statement, &params, &mut reusable).await };
    let asked = timeout_at(deadline.into(), asked).await;
    finish(lease, asked.unwrap_or(Err(Failure::TimeLimit)), reusable)
}

/// Runs statements without parameters.
pub(crate) async fn batch(pool: &Arc<Pool>, statements: &str, deadline: Instant) -> Result<(), QueryError> {
    within_bounds(statements.len())?;
    let lease = pool.lease(deadline).await?;
    let asked = async { lease.client()?.batch_execute(statements).await.map_err(Failure::of) };
    let asked = timeout_at(deadline.into(), asked).await;
    finish(lease, asked.unwrap_or(Err(Failure::TimeLimit)), true)
}

fn within_bounds(bytes: usize) -> Result<(), Failure> {
    match bytes > STATEMENT_BYTES_MAX {
        true => Err(Failure::Params(format!(
            "a statement and its parameters have at most {STATEMENT_BYTES_MAX} bytes, and these {bytes}"
        ))),
        false => Ok(()),
    }
}

/// Gives the connection back, unless it is in the middle of something.
fn finish<T>(lease: Lease, asked: Result<T, Failure>, reusable: bool) -> Result<T, QueryError> {
    let asked = match asked {
        Err(_) if lease.cut_off() => Err(too_large(WIRE_BYTES_MAX)),
        asked => asked,
    };
    match &asked {
        // What the database refused itself leaves the connection as it was.
        Ok(_) | Err(Failure::Params(_) | Failure::Query(_) | Failure::Refused(_) | Failure::Cell(..)) => {
            lease.give_back(reusable);
        }
        // Dropped, which cancels the statement and closes the connection.
        Err(_) => drop(lease),
    }
    asked.map_err(QueryError::from)
}

fn too_large(bytes: usize) -> Failure {
    Failure::TooLarge(format!("it has more than {} MiB", bytes >> 20))
}

async fn ask(client: &Client, text: &str, params: &[Param], reusable: &mut bool) -> Result<Rows, Failure> {
    let statement = client.prepare(text).await.map_err(Failure::of)?;
    *reusable = !asks_for_types(&statement);
    let wanted = statement.params().len();
    if wanted != params.len() {
        return Err(Failure::Params(format!(
            "the statement has {wanted} parameters, and {} are given",
            params.len()
        )));
    }
    let rows = client.query_raw(&statement, params).await.map_err(Failure::of)?;
    let mut rows = pin!(rows);
    let (mut found, mut bytes): (Rows, usize) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await.map_err(Failure::of)? {
        if found.len() == ROWS_MAX {
            return Err(Failure::TooLarge(format!("it has more than {ROWS_MAX} rows")));
        }
        let entries = entries(&row)?;
        bytes += row.raw_size_bytes();
        bytes += entries
            .iter()
            .map(|entry| size_of_val(entry) + entry.column_name.len())
            .sum::<usize>();
        if bytes > ANSWER_BYTES_MAX {
            return Err(too_large(ANSWER_BYTES_MAX));
        }
        found.push(entries);
    }
    Ok(found)
}

fn entries(row: &Row) -> Result<Vec<ResultRowEntry>, Failure> {
    let columns = row.columns().iter().enumerate();
    columns
        .map(|(index, column)| {
            let cell = row.try_get::<_, Cell>(index).map_err(|error| {
                let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                Failure::Cell(column.name().to_owned(), why)
            })?;
            Ok(ResultRowEntry {
                column_name: column.name().to_owned(),
                value: cell.0,
            })
        })
        .collect()
}

/// Whether the library had to ask the database about types. It does so with statements of its own that it keeps for the
/// next time, and cleaning a session takes these away from under it.
fn asks_for_types(statement: &Statement) -> bool {
    let built_in = |ty: &Type| Type::from_oid(ty.oid()).is_some();
    let columns = statement.columns().iter().map(|column| column.type_());
    let mut types = statement.params().iter().chain(columns);
    types.any(|ty| !built_in(ty) || matches!(ty.kind(), Kind::Array(of) if !built_in(of)))
}
