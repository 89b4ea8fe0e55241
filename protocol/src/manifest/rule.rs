//! The rules that a manifest must keep, each with the stable name that programs and documents use.
//!
//! A rule never changes its name. What a rule means in one place is said by the problem's message.

macro_rules! rules {
    ($($constant:ident = $slug:literal: $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $slug;)*

        /// Every rule and what it asks for, in the order in which a manifest meets them.
        pub const ALL: &[(&str, &str)] = &[$(($slug, $meaning)),*];
    };
}

rules! {
    TEXT_TOO_LARGE = "text-too-large": "A manifest is at most 1 MiB of text.";
    NOT_UTF8 = "not-utf-8": "A manifest is UTF-8 text.";
    CONTROL_CHARACTER = "control-character": "Invisible characters are written as escapes in quotes.";
    YAML_SYNTAX = "yaml-syntax": "A manifest is well-formed YAML 1.2 or JSON.";
    YAML_ANCHOR = "yaml-anchor": "Anchors and aliases are not used: every value is written where it belongs.";
    YAML_TAG = "yaml-tag": "Tags are not used: the manifest's shape says what a value is.";
    TOO_MANY_DOCUMENTS = "too-many-documents": "A manifest holds at most 2,000 documents.";
    TOO_MANY_NODES = "too-many-nodes": "A manifest holds at most 50,000 values and keys.";
    TOO_DEEP = "too-deep": "Values are nested at most 64 deep.";
    EMPTY_MANIFEST = "empty-manifest": "A manifest holds at least one object.";
    DUPLICATE_KEY = "duplicate-key": "A key stands once in its mapping.";
    KEY_NOT_TEXT = "key-not-text": "Keys are text.";
    NUMBER_OUT_OF_RANGE = "number-out-of-range": "A number fits in 64 bits and is finite.";
    UNKNOWN_API_VERSION = "unknown-api-version": "The `apiVersion` is `heddle.dev/v1`.";
    UNKNOWN_KIND = "unknown-kind": "The `kind` is Platform, Config, SecretRef, Policy, Quota or Workload.";
    UNKNOWN_FIELD = "unknown-field": "Only fields of the manifest's shape are written.";
    MISSING_FIELD = "missing-field": "Fields without a default are written.";
    WRONG_TYPE = "wrong-type": "A value has the type of its field.";
    UNKNOWN_VALUE = "unknown-value": "A value is one of those that its field allows.";
    OUT_OF_RANGE = "out-of-range": "A number or amount lies within its field's bounds.";
    WRONG_LENGTH = "wrong-length": "A list or text has a length within its field's bounds.";
    BAD_DURATION = "bad-duration": "A duration is a whole number and one of ms, s, m, h.";
    BAD_SIZE = "bad-size": "A size is a whole number and one of Ki, Mi, Gi, Ti, or plain bytes.";
    BAD_CPU = "bad-cpu": "Processor time is whole cores, or thousandths of one with m.";
    BAD_NAME = "bad-name": "A name is 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends.";
    BAD_LABEL = "bad-label": "Label keys and values keep the form of Kubernetes labels.";
    BAD_CONFIG_KEY = "bad-config-key": "A config or secret key is 1 to 253 of letters, digits, '.', '_' and '-'.";
    BAD_IMAGE = "bad-image": "An image is `oci://registry/path:tag`, `file:path` or `sha256:<hex>`.";
    BAD_INTERFACE = "bad-interface": "An interface is `namespace:package/interface`, with or without `@version`.";
    BAD_ADDRESS = "bad-address": "An address is `host:port`, or for a listener `ip:port`.";
    BAD_HOST = "bad-host": "A host is a DNS name in lower case, without port.";
    BAD_PATH = "bad-path": "A path starts with `/` and holds no query, fragment, empty or dot segment.";
    BAD_SUBJECT = "bad-subject": "A subject is made of tokens between dots, with `*` and `>` as NATS has them.";
    BAD_SCHEDULE = "bad-schedule": "A schedule has five fields: minute, hour, day of month, month, day of week.";
    BAD_TIME_ZONE = "bad-time-zone": "A time zone is `UTC` or a name such as `Europe/Berlin`.";
    BAD_URL = "bad-url": "A URL names a server by scheme, host and port, and holds no password: secrets come as `secrets`.";
    BAD_PREFIX = "bad-prefix": "A wRPC prefix is 1 to 10 tokens of letters, digits, '_' and '-', and none of the fleet's own.";
    BAD_FEATURE = "bad-feature": "A feature is 1 to 128 of a-z, 0-9, '-', '.' and '@', such as acme-ledger@1.2.0.";
    BAD_PUBLIC_KEY = "bad-public-key": "A public key is PEM, from `-----BEGIN PUBLIC KEY-----` to `-----END PUBLIC KEY-----`.";
    BAD_VARIABLE = "bad-variable": "An environment variable is 1 to 128 of letters, digits and '_', and begins with no digit.";
    BAD_STORE_NAME = "bad-store-name": "A bucket or stream is 1 to 255 of letters, digits, '_' and '-'.";
    DUPLICATE_OBJECT = "duplicate-object": "An object stands once in a change.";
    DUPLICATE_NAME = "duplicate-name": "A component's name stands once in its workload.";
    DUPLICATE_LINK = "duplicate-link": "One import of one component has one link.";
    DUPLICATE_VALUE = "duplicate-value": "A value stands once in its list.";
    ROUTE_CONFLICT = "route-conflict": "A route of one listener (host, path, method) has one owner.";
    ADDRESS_CONFLICT = "address-conflict": "An address of a platform has one listener.";
    UNKNOWN_COMPONENT = "unknown-component": "A component that is referred to is part of the workload.";
    EXACTLY_ONE = "exactly-one": "Exactly one of these fields is written.";
    NOT_TOGETHER = "not-together": "These fields exclude each other.";
    NEEDS_VIA = "needs-via": "This field only has a meaning on links with `to.via`.";
    LINK_CYCLE = "link-cycle": "Composed components do not import each other in a circle.";
    LINK_TO_SELF = "link-to-self": "A component or workload is not linked to itself.";
    EMPTY_RULE = "empty-rule": "A condition names at least one thing that it asks for.";
    BAD_VERSION_RULE = "bad-version-rule": "A requirement on versions is Semantic Versioning's, such as `>=1.2, <2`.";
    AVOID_SELF = "avoid-self": "A workload is not kept away from itself: `maxPerHost` and `spread` share its replicas out.";
    NEEDS_MAX_SKEW = "needs-max-skew": "`hard` only has a meaning beside `maxSkew`.";
    ZERO_WEIGHTS = "zero-weights": "At least one of the weights is greater than 0.";
    SINGLETON = "singleton": "A workload with `stopAfter` is a singleton: one replica, no surge.";
    TOO_MANY_PROBLEMS = "too-many-problems": "Only the first problems are listed.";
    NOT_YET_SUPPORTED = "not-yet-supported": "The field is part of the manifest's shape, but this release does not run it.";
}
