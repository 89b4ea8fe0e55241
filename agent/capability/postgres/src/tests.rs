//! The two functions against a real Postgres: values both ways, hostile input, bounds, and a server that dies.

use crate::float::{of_f32, of_f64};
use crate::pool::Pool;
use crate::query::{self, ROWS_MAX};
use crate::types::{Date, PgValue, QueryError, Time, Timestamp};
use heddle_capability::{SecretHandle, SecretValue};
use heddle_tests::postgres::{PASSWORD, Postgres};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::Config;
use zeroize::Zeroizing;

const SOON: Duration = Duration::from_secs(20);

struct Database {
    server: Postgres,
    pool: Arc<Pool>,
    password: SecretHandle,
    _folder: TempDir,
}

fn secret(version: &str, text: &str) -> SecretValue {
    SecretValue::new(version, Zeroizing::new(text.as_bytes().to_vec()))
}

impl Database {
    async fn start(connections_max: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Postgres::start(&folder.path().join("postgres.log")).await.unwrap();
        let password = SecretHandle::default();
        password.set(secret("1", PASSWORD));
        let mut config = Config::from_str(&server.url()).unwrap();
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        Self {
            server,
            pool: Arc::new(Pool::new(config, None, Some(password.clone()), connections_max)),
            password,
            _folder: folder,
        }
    }

    async fn query(&self, statement: &str, values: Vec<PgValue>) -> Result<query::Rows, QueryError> {
        query::query(&self.pool, statement, values, Instant::now() + SOON).await
    }

    async fn batch(&self, statements: &str) -> Result<(), QueryError> {
        query::batch(&self.pool, statements, Instant::now() + SOON).await
    }

    /// The one value of the one row.
    async fn one(&self, statement: &str, values: Vec<PgValue>) -> PgValue {
        let mut rows = self.query(statement, values).await.unwrap();
        rows.remove(0).remove(0).value
    }
}

fn text(text: &str) -> PgValue {
    PgValue::Text(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_come_back_from_the_database_as_they_went_there() {
    let database = Database::start(2).await;
    let moment = Timestamp {
        date: Date::Ymd((2024, 2, 29)),
        time: Time {
            hour: 23,
            min: 59,
            sec: 58,
            micro: 7,
        },
    };
    let same: Vec<(&str, PgValue)> = vec![
        ("bool", PgValue::Bool(true)),
        ("smallint", PgValue::Int2(i16::MIN)),
        ("int", PgValue::Int4(i32::MAX)),
        ("bigint", PgValue::Int8(i64::MIN)),
        ("real", PgValue::Float4(of_f32(0.1))),
        ("float8", PgValue::Float8(of_f64(-1.5e-300))),
        ("numeric", PgValue::Numeric("-12345678901234567890.00012300".into())),
        ("text", text("ä \" ' \\ ; -- \n")),
        ("name", PgValue::Name("a name".into())),
        ("varchar", PgValue::Varchar((None, b"abc".to_vec()))),
        ("char(3)", PgValue::Char((3, b"abc".to_vec()))),
        ("bytea", PgValue::Bytea(vec![0, 1, 255])),
        ("uuid", PgValue::Uuid("0190163d-8694-739b-aea5-966c26f8ad91".into())),
        ("json", PgValue::Json(r#"{"a": [1]}"#.into())),
        ("jsonb", PgValue::Jsonb(r#"{"a": [1]}"#.into())),
        ("inet", PgValue::Inet("10.1.2.3".into())),
        ("cidr", PgValue::Cidr("fe80::/64".into())),
        ("date", PgValue::Date(Date::Ymd((-43, 3, 15)))),
        ("date", PgValue::Date(Date::PositiveInfinity)),
        ("time", PgValue::Time(moment.time)),
        ("timestamp", PgValue::Timestamp(moment)),
        ("int[]", PgValue::Int4Array(vec![1, -2])),
        (
            "text[]",
            PgValue::TextArray(vec!["NULL".into(), "{,\"\\".into(), String::new()]),
        ),
        ("bytea[]", PgValue::ByteaArray(vec![vec![], vec![9]])),
        ("float8[]", PgValue::Float8Array(vec![of_f64(f64::INFINITY)])),
    ];
    for (ty, value) in same {
        let back = database.one(&format!("SELECT $1::{ty}"), vec![value.clone()]).await;
        assert_eq!(back, value, "{ty}");
    }
    assert_eq!(database.one("SELECT $1::int", vec![PgValue::Null]).await, PgValue::Null);
    let zoned = database.one("SELECT '2000-01-01 02:00+02'::timestamptz", vec![]).await;
    assert!(format!("{zoned:?}").contains("Ymd((2000, 1, 1))") && format!("{zoned:?}").contains("hour: 0"));
    // Types that somebody has made.
    database
        .batch("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN age AS int")
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(
            database.one("SELECT $1::mood", vec![text("happy")]).await,
            text("happy")
        );
        assert_eq!(database.one("SELECT 7::age", vec![]).await, PgValue::Int4(7));
    }
    let refused = database.query("SELECT point(1, 2) AS there", vec![]).await.unwrap_err();
    let QueryError::Unexpected(why) = refused else {
        unreachable!("{refused:?}")
    };
    assert!(why.contains("there") && why.contains("point"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_stays_data_whatever_it_says() {
    let database = Database::start(2).await;
    database
        .batch("CREATE TABLE person (name text); INSERT INTO person VALUES ('alice'), ('bob')")
        .await
        .unwrap();
    for attack in [
        "' OR '1'='1",
        "'; DROP TABLE person; --",
        "\\'; DROP TABLE person; --",
        "$1",
        "alice'/*",
        "\u{2019} OR 1=1 --",
    ] {
        let found = database
            .query("SELECT * FROM person WHERE name = $1", vec![text(attack)])
            .await;
        assert_eq!(found.unwrap().len(), 0, "{attack}");
        let found = database
            .query(
                "SELECT * FROM person WHERE name = ANY($1::text[])",
                vec![PgValue::TextArray(vec![attack.into(), format!("\",\"{attack}")])],
            )
            .await;
        assert_eq!(found.unwrap().len(), 0, "{attack}");
        let stored = database
            .query("INSERT INTO person VALUES ($1) RETURNING name", vec![text(attack)])
            .await;
        assert_eq!(stored.unwrap()[0][0].value, text(attack));
    }
    assert_eq!(
        database.one("SELECT count(*) FROM person", vec![]).await,
        PgValue::Int8(8)
    );
    let several = database.query("SELECT 1; DROP TABLE person", vec![]).await;
    assert!(matches!(several, Err(QueryError::InvalidQuery(_))), "{several:?}");
    let number = database
        .query("SELECT $1::int", vec![text("1; DROP TABLE person")])
        .await;
    assert!(matches!(number, Err(QueryError::InvalidParams(_))), "{number:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_call_is_told_by_kind() {
    let database = Database::start(1).await;
    let wrong = database.query("SELEKT 1", vec![]).await;
    assert!(
        matches!(&wrong, Err(QueryError::InvalidQuery(why)) if why.starts_with("42601")),
        "{wrong:?}"
    );
    let wrong = database.query("SELECT $1::int", vec![]).await;
    assert!(matches!(wrong, Err(QueryError::InvalidParams(_))), "{wrong:?}");
    let wrong = database.query("SELECT 1", vec![PgValue::Null]).await;
    assert!(matches!(wrong, Err(QueryError::InvalidParams(_))), "{wrong:?}");
    let zero = database.query("SELECT $1", vec![text("a\0b")]).await;
    assert!(matches!(zero, Err(QueryError::InvalidParams(_))), "{zero:?}");
    database.batch("CREATE TABLE one (id int PRIMARY KEY)").await.unwrap();
    let insert = "INSERT INTO one VALUES ($1)";
    assert_eq!(database.query(insert, vec![PgValue::Int4(1)]).await.unwrap().len(), 0);
    let twice = database.query(insert, vec![PgValue::Int8(1)]).await;
    assert!(
        matches!(&twice, Err(QueryError::Unexpected(why)) if why.starts_with("23505")),
        "{twice:?}"
    );
    // A copy waits for data that nobody sends: the connection is given up, not the capability.
    let copy = database.batch("COPY one FROM STDIN").await;
    assert!(copy.is_err());
    assert_eq!(database.one("SELECT 1", vec![]).await, PgValue::Int4(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_finds_nothing_of_the_session_before_it() {
    let database = Database::start(1).await;
    let process = database.one("SELECT pg_backend_pid()", vec![]).await;
    database
        .batch("BEGIN; CREATE TABLE half (id int); SET search_path = nowhere; SET statement_timeout = 1")
        .await
        .unwrap();
    database.batch("CREATE TEMP TABLE scratch (id int)").await.unwrap();
    database
        .batch("PREPARE s1 AS SELECT 666; PREPARE mine AS SELECT 1; SELECT pg_advisory_lock(1)")
        .await
        .unwrap();
    assert!(
        database.query("SELECT * FROM half", vec![]).await.is_err(),
        "its transaction is gone"
    );
    assert!(database.query("SELECT * FROM scratch", vec![]).await.is_err());
    assert!(database.batch("EXECUTE mine").await.is_err());
    let path = database.one("SELECT current_setting('search_path')", vec![]).await;
    assert!(!format!("{path:?}").contains("nowhere"));
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(database.one(locks, vec![]).await, PgValue::Int8(0));
    let same = database.one("SELECT pg_backend_pid()", vec![]).await;
    assert_eq!(same, process, "all this on one connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_large_is_refused_and_not_held() {
    let database = Database::start(2).await;
    let rows = |n: usize| format!("SELECT generate_series(1, {n})");
    assert_eq!(database.query(&rows(ROWS_MAX), vec![]).await.unwrap().len(), ROWS_MAX);
    for large in [
        rows(ROWS_MAX + 1),
        "SELECT repeat('x', 9000000)".to_owned(),
        "SELECT repeat('x', 200000000)".to_owned(),
        "SELECT repeat('x', 10000) FROM generate_series(1, 100000)".to_owned(),
    ] {
        let refused = database.query(&large, vec![]).await;
        let why = match refused {
            Err(QueryError::Unexpected(why)) => why,
            other => unreachable!("{large}: {:?}", other.map(|rows| rows.len())),
        };
        assert!(why.contains("too large"), "{large}: {why}");
    }
    let batch = database.batch("SELECT repeat('x', 200000000)").await;
    assert!(
        matches!(&batch, Err(QueryError::Unexpected(why)) if why.contains("too large")),
        "{batch:?}"
    );
    assert_eq!(database.one("SELECT 1", vec![]).await, PgValue::Int4(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_ends_with_its_call_and_gives_its_place_back() {
    let database = Database::start(1).await;
    let short = || Instant::now() + Duration::from_millis(500);
    for slow in [
        "SELECT pg_sleep(600)",
        "SET statement_timeout = 0; SELECT pg_sleep(600)",
    ] {
        let began = Instant::now();
        let ended = query::batch(&database.pool, slow, short()).await;
        assert!(matches!(ended, Err(QueryError::Unexpected(_))), "{ended:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
        // The one place is free again.
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()
             AND state = 'active'";
        let end = Instant::now() + SOON;
        while database.one(asleep, vec![]).await != PgValue::Int8(0) {
            assert!(Instant::now() < end, "{slow} goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Let go of in the middle, as a guest that is stopped does.
    let pool = Arc::clone(&database.pool);
    let call = tokio::spawn(async move { query::batch(&pool, "SELECT pg_sleep(600)", Instant::now() + SOON).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let pool = Arc::clone(&database.pool);
    let waiting = query::batch(&pool, "SELECT 1", Instant::now() + Duration::from_millis(200)).await;
    assert!(
        matches!(&waiting, Err(QueryError::Unexpected(why)) if why.contains("maxConnections")),
        "{waiting:?}"
    );
    call.abort();
    assert_eq!(database.one("SELECT 1", vec![]).await, PgValue::Int4(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_a_typed_error_and_comes_back_by_itself() {
    let mut database = Database::start(4).await;
    assert_eq!(database.one("SELECT 1", vec![]).await, PgValue::Int4(1));
    database.server.kill().unwrap();
    let began = Instant::now();
    let dead = database.query("SELECT 1", vec![]).await;
    assert!(
        matches!(&dead, Err(QueryError::Unexpected(why)) if why.contains("failed to reach")),
        "{dead:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    database.server.start_again().await.unwrap();
    assert_eq!(database.one("SELECT 1", vec![]).await, PgValue::Int4(1));
    // One that hangs costs the call its time and no more.
    database.server.process().freeze().unwrap();
    let ended = query::query(
        &database.pool,
        "SELECT 2",
        vec![],
        Instant::now() + Duration::from_millis(700),
    )
    .await;
    let _ = ended;
    assert!(began.elapsed() < SOON * 2);
    database.server.process().thaw().unwrap();
    assert_eq!(database.one("SELECT 3", vec![]).await, PgValue::Int4(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_wrong_or_missing_is_told_and_a_new_one_is_used() {
    let database = Database::start(2).await;
    database.password.set(secret("2", "wrong"));
    let refused = database.query("SELECT 1", vec![]).await;
    assert!(
        matches!(&refused, Err(QueryError::Unexpected(why)) if why.starts_with("28P01")),
        "{refused:?}"
    );
    assert!(!format!("{refused:?}").contains("wrong"));
    database.password.set(secret("3", PASSWORD));
    assert_eq!(database.one("SELECT 1", vec![]).await, PgValue::Int4(1));
}
