//! The binary as a person or a script meets it, without a fleet: verbs, exit codes, what goes to which stream.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command did.
struct Ran {
    exit: i32,
    out: String,
    err: String,
}

impl Ran {
    /// The one JSON document on stdout.
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("stdout is no JSON ({e}): {}{}", self.out, self.err))
    }
}

/// A folder for configuration and files, in which commands run.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn heddle(&self, args: &[&str]) -> Ran {
        self.heddle_with(args, &[], "")
    }

    fn heddle_with(&self, args: &[&str], env: &[(&str, &str)], stdin: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEDDLE_")) {
            command.env_remove(name);
        }
        let mut child = command
            .args(args)
            .current_dir(self.0.path())
            .env("HEDDLE_CONFIG_DIR", self.path("config"))
            .env_remove("RUST_LOG")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its stdin may be gone before all is written.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran {
            exit: done.status.code().unwrap_or(-1),
            out: text(done.stdout),
            err: text(done.stderr),
        }
    }
}

/// An address at which nothing listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("nats://{}", listener.local_addr().unwrap())
}

const GOOD: &str = "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: { name: web, namespace: shop }\nspec:\n  components: [{ name: api, image: \"file:web.wasm\" }]\n  replicas: 2\n";

#[test]
fn a_mistyped_verb_is_wrong_usage_and_the_right_one_is_suggested() {
    let ran = Desk::new().heddle(&["appply", "-f", "x.yaml"]);
    assert_eq!(ran.exit, 2);
    assert!(ran.err.contains("apply") && ran.err.contains("similar"), "{}", ran.err);
    assert!(ran.out.is_empty());
}

#[test]
fn help_lists_the_exit_codes() {
    let ran = Desk::new().heddle(&["help", "exit-codes"]);
    assert_eq!(ran.exit, 0);
    for code in 0..=8 {
        assert!(
            ran.out.contains(&format!("  {code}  ")),
            "{code} is missing in {}",
            ran.out
        );
    }
    let verbs = Desk::new().heddle(&["--help"]).out;
    assert!(!verbs.contains("become-child"), "{verbs}");
}

#[test]
fn a_good_manifest_is_valid_from_a_file_a_folder_and_stdin() {
    let desk = Desk::new();
    let file = desk.write("web.yaml", GOOD);
    for args in [["validate", "-f", file.to_str().unwrap()], ["validate", "-f", "."]] {
        let ran = desk.heddle(&args);
        assert_eq!(
            (ran.exit, ran.out.as_str()),
            (0, "Workload shop/web\n1 object without a problem\n"),
            "{}",
            ran.err
        );
    }
    let ran = desk.heddle_with(&["validate", "-f", "-", "--json"], &[], GOOD);
    assert_eq!(
        ran.json(),
        serde_json::json!({"ok": true, "objects": ["Workload shop/web"]})
    );
}

#[test]
fn every_problem_of_a_bad_manifest_is_told_with_its_place() {
    let desk = Desk::new();
    desk.write(
        "web.yaml",
        &GOOD.replace("replicas: 2", "replica: 2\n  triggers: [{ http: { capability: Web } }]"),
    );
    let ran = desk.heddle(&["validate", "-f", "web.yaml"]);
    assert_eq!(ran.exit, 3);
    assert!(ran.out.is_empty(), "{}", ran.out);
    assert!(
        ran.err.contains("web.yaml:6:3:") && ran.err.contains("did you mean `replicas`?"),
        "{}",
        ran.err
    );
    assert!(ran.err.lines().any(|line| line.starts_with("next: ")), "{}", ran.err);

    let json = desk.heddle(&["validate", "-f", "web.yaml", "--json"]).json();
    assert_eq!((&json["ok"], &json["error"]["exit"]), (&false.into(), &3.into()));
    assert_eq!(json["error"]["code"], "invalid-manifest");
    assert_eq!(json["error"]["problems"][0]["rule"], "unknown-field");
}

#[test]
fn a_field_that_this_release_does_not_run_is_refused_by_name() {
    let desk = Desk::new();
    desk.write(
        "green.yaml",
        &GOOD.replace("replicas: 2", "rollout: { strategy: blueGreen }"),
    );
    let ran = desk.heddle(&["validate", "-f", "green.yaml"]);
    assert_eq!(ran.exit, 3, "{}", ran.err);
    assert!(
        ran.err.contains("not-yet-supported") && ran.err.contains("spec.rollout.strategy"),
        "{}",
        ran.err
    );
}

#[test]
fn the_examples_of_this_repository_are_valid() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    for entry in std::fs::read_dir(manifests).unwrap() {
        let path = entry.unwrap().path();
        let ran = Desk::new().heddle(&["validate", "-f", path.to_str().unwrap()]);
        assert_eq!(ran.exit, 0, "{}: {}", path.display(), ran.err);
    }
}

#[test]
fn without_a_manifest_there_is_nothing_to_apply() {
    let desk = Desk::new();
    assert_eq!(desk.heddle(&["apply"]).exit, 2);
    let ran = desk.heddle(&["apply", "-f", "missing.yaml"]);
    assert_eq!(ran.exit, 1);
    assert!(ran.err.contains("missing.yaml"), "{}", ran.err);
}

#[test]
fn a_fleet_that_does_not_answer_has_an_exit_code_and_a_next_step() {
    let desk = Desk::new();
    let nats = nowhere();
    for args in [
        vec!["status"],
        vec!["hosts"],
        vec!["get", "workloads"],
        vec!["delete", "workload", "web"],
    ] {
        let ran = desk.heddle_with(&args, &[("HEDDLE_NATS", nats.as_str())], "");
        assert_eq!(ran.exit, 6, "{args:?}: {}", ran.err);
        assert!(
            ran.err.contains("heddle: failed to connect") && ran.err.contains("next: "),
            "{}",
            ran.err
        );
        assert!(ran.out.is_empty());
    }
    assert_eq!(
        desk.heddle(&["hosts", "drain", "host-1", "--nats", &nats]).exit,
        6,
        "flags may follow the last word"
    );
    let json = desk.heddle(&["status", "--nats", &nats, "--json"]).json();
    assert_eq!(json["error"]["exit"], 6);
}

#[test]
fn an_image_that_is_missing_is_refused_before_the_fleet_is_asked_for_anything() {
    let desk = Desk::new();
    desk.write("web.yaml", GOOD);
    desk.write("bad.wasm", "no wasm");
    // The fleet is not there either; what is wrong here comes first.
    let ran = desk.heddle(&["apply", "-f", "web.yaml", "--nats", &nowhere()]);
    assert_eq!(ran.exit, 3, "{}", ran.err);
    assert!(
        ran.err.contains("web.yaml:5:") && ran.err.contains("image-file"),
        "{}",
        ran.err
    );
}

#[test]
fn contexts_are_set_used_shown_and_removed() {
    let desk = Desk::new();
    let list = desk.heddle(&["context", "set", "edge", "--nats", "nats://edge:4222", "--realm", "eu"]);
    assert_eq!(list.exit, 0, "{}", list.err);
    desk.heddle(&["context", "set", "home", "--nats", "nats://home:4222"]);
    assert_eq!(
        desk.heddle(&["context"]).out,
        "CURRENT  CONTEXT  NATS              REALM\n\
         *        edge     nats://edge:4222  eu\n\
         -        home     nats://home:4222\n"
    );
    assert_eq!(desk.heddle(&["context", "use", "home"]).exit, 0);
    let shown = desk.heddle(&["context", "show", "--json"]).json();
    assert_eq!(
        (&shown["context"], &shown["nats"]),
        (&"home".into(), &"nats://home:4222".into())
    );
    assert_eq!(shown["sources"]["realm"], "default");
    let env = [("HEDDLE_REALM", "us")];
    let shown = desk.heddle_with(&["context", "show", "--json"], &env, "").json();
    assert_eq!(
        (&shown["realm"], &shown["sources"]["realm"]),
        (&"us".into(), &"environment".into())
    );
    assert_eq!(desk.heddle(&["context", "remove", "home"]).exit, 0);
    assert_eq!(desk.heddle(&["context", "use", "home"]).exit, 4);
}

#[test]
fn a_broken_contexts_file_is_named() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("config")).unwrap();
    std::fs::write(desk.path("config").join("contexts.json"), "{ nonsense").unwrap();
    let ran = desk.heddle(&["status"]);
    assert_eq!(ran.exit, 1);
    assert!(
        ran.err.contains("contexts.json") && ran.err.contains("next: "),
        "{}",
        ran.err
    );
}

#[test]
fn a_key_is_made_once_and_its_secret_is_not_shown() {
    let desk = Desk::new();
    let made = desk.heddle(&["key", "new", "me.seed"]);
    assert_eq!(made.exit, 0, "{}", made.err);
    let public = made.out.trim();
    assert!(public.starts_with('U'), "{public}");
    let seed = std::fs::read_to_string(desk.path("me.seed")).unwrap();
    assert!(seed.starts_with("SU") && !made.out.contains(seed.trim()));
    assert_eq!(desk.heddle(&["key", "new", "me.seed"]).exit, 5);
    assert_eq!(desk.heddle(&["key", "show", "me.seed"]).out.trim(), public);
}

#[test]
fn scripts_and_schemas_are_data_on_stdout() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = desk.heddle(&["completions", shell]);
        assert!(ran.exit == 0 && ran.out.contains("uncordon"), "{shell}: {}", ran.err);
    }
    assert_eq!(desk.heddle(&["schema"]).json()["oneOf"].as_array().unwrap().len(), 6);
    let version = desk.heddle(&["version", "--client", "--json"]).json();
    assert_eq!(version["client"], env!("CARGO_PKG_VERSION"));
    let version = desk.heddle(&["version", "--nats", &nowhere()]);
    assert_eq!(
        version.exit, 0,
        "a fleet that does not answer is no failure of `version`"
    );
    assert!(version.out.contains("none answers"), "{}", version.out);
}

#[test]
fn up_without_a_fit_nats_server_says_where_to_get_one() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let none = desk.heddle_with(&["up", "--once"], &[("PATH", "/nonexistent")], "");
    assert_eq!(none.exit, 1);
    assert!(
        none.err.contains("none was found") && none.err.contains("next: `cargo xtask up`"),
        "{}",
        none.err
    );

    let old = desk.write("old-nats", "#!/bin/sh\necho 'nats-server: v2.9.10'\n");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let env = [("HEDDLE_NATS_SERVER", old.to_str().unwrap())];
    let json = desk.heddle_with(&["up", "--once", "--json"], &env, "").json();
    assert_eq!(json["ok"], false);
    assert!(
        json["error"]["message"].as_str().unwrap().contains("2.9 is too old"),
        "{json}"
    );
}

#[test]
fn up_tells_the_last_words_of_a_child_that_ends_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let text = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'nats-server: v2.15.1'; else echo 'no such luck' >&2; exit 7; fi\n";
    let broken = desk.write("broken-nats", text);
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let env = [("HEDDLE_NATS_SERVER", broken.to_str().unwrap())];
    let ran = desk.heddle_with(&["up", "--once"], &env, "");
    assert_eq!(ran.exit, 1);
    assert!(
        ran.err
            .contains("nats-server: ended with exit code 7; it said: no such luck"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("nats.log"), "{}", ran.err);
}

#[test]
fn roles_need_to_be_told_what_they_serve() {
    let desk = Desk::new();
    for args in [
        vec!["scheduler"],
        vec!["agent", "--realm", "local"],
        vec!["agent", "--realm", "local", "--data", "d"],
        vec!["agent", "--realm", "Local", "--data", "d"],
    ] {
        let ran = desk.heddle(&args);
        assert_eq!(ran.exit, 2, "{args:?}: {}", ran.err);
    }
}
