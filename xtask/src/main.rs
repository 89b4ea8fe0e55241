//! `cargo xtask …`: the project's own commands. Each says on stderr what it is doing and fetches what it needs; stdout
//! is only data. In: the command line. Out: an exit code of 0, or 1 with the reason, or 2 for a wrong command line.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use xtask::workspace::Workspace;
use xtask::{bao, bench, chaos, deny, guests, nats, postgres, redis, registry, sim, test, up};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  up [--once] [--json] [--hosts N] [--release]
                      a local fleet with the example workloads; flags but --release go to `heddle up`
  test [--filter NAME]
                      every test of the workspace, with what it needs; ends with a table of suites and counts
  bench NAME | --list [--json] [--quick]
                      measure with release builds; flags go to `heddle-bench`
  chaos [--seed N] [--faults N] [--kinds KIND,…] [--json] [--release]
                      hurt a fleet of real processes under load, and check what came of it
  sim [--seeds N] [--from N] [--seed N [--shrink]] [--mutants] [--quick] [--json]
                      run production code in simulated worlds that break, and check what must always be true
  guests              build the guest components; prints their folder
  nats                find or fetch a nats-server that is new enough; prints its path
  bao                 find or fetch an OpenBao to test against; prints its path
  redis               find or fetch a redis-server to test against; prints its path
  postgres            find or fetch a PostgreSQL to test against; prints the folder of its programs
  registry            find or fetch a docker-registry to test against; prints its path
  deny                check licences, bans and sources of all dependencies
  help                this text

Environment: HEDDLE_CACHE (where fetched things are kept; default ~/.cache/heddle),
HEDDLE_NATS_SERVER, HEDDLE_BAO, HEDDLE_REDIS_SERVER and HEDDLE_DOCKER_REGISTRY (programs to use instead of looking
for them) and HEDDLE_POSTGRES_BIN (the folder of PostgreSQL's programs).
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let asks_help = matches!(command.as_str(), "help" | "--help" | "-h");
    if asks_help {
        return exit_code(print(HELP));
    }
    match command.as_str() {
        "up" | "bench" | "chaos" | "sim" | "test" => {}
        "guests" | "nats" | "bao" | "redis" | "postgres" | "registry" | "deny" if rest.is_empty() => {}
        "guests" | "nats" | "bao" | "redis" | "postgres" | "registry" | "deny" => {
            return wrong(&format!("`{command}` takes no arguments"));
        }
        _ => return wrong(&format!("there is no command `{command}`")),
    }
    exit_code(dispatch(command, rest))
}

fn dispatch(command: &str, rest: &[String]) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        "up" => match up::run(&workspace, rest)? {},
        "bench" => match bench::run(&workspace, rest)? {},
        "chaos" => match chaos::run(&workspace, rest)? {},
        "sim" => match sim::run(&workspace, rest)? {},
        "test" => test::run(&workspace, rest),
        "guests" => print(&format!("{}\n", guests::ensure(&workspace)?.display())),
        "nats" => print(&format!("{}\n", nats::ensure()?.display())),
        "bao" => print(&format!("{}\n", bao::ensure()?.display())),
        "redis" => print(&format!("{}\n", redis::ensure()?.display())),
        "postgres" => print(&format!("{}\n", postgres::ensure()?.display())),
        "registry" => print(&format!("{}\n", registry::ensure()?.display())),
        _ => deny::check(&workspace),
    }
}

fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?)
}

fn wrong(what: &str) -> ExitCode {
    eprintln!("heddle: {what}; `cargo xtask help` lists all commands");
    ExitCode::from(2)
}

fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle: {error:#}");
            ExitCode::FAILURE
        }
    }
}
