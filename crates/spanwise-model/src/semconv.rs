//! Attribute keys by meaning: of each the names in use, newest first. The only place that knows which were renamed.
//!
//! After OpenTelemetry's semantic conventions 1.44 and what they replaced; a few of older instrumentations beside them.

pub type Keys = &'static [&'static str];

/// Whom a client calls, best first.
pub const PEER: Keys = &[
    "service.peer.name",
    "peer.service",
    "server.address",
    "net.peer.name",
    "http.host",
    "server.socket.domain",
    "peer.hostname",
    "out.host",
    "network.peer.address",
    "net.sock.peer.name",
    "net.sock.peer.addr",
    "net.peer.ip",
    "peer.address",
    "peer.ipv4",
];
/// A peer that was named on purpose.
pub const PEER_SERVICE: Keys = &["service.peer.name", "peer.service"];

pub const DB_SYSTEM: Keys = &["db.system.name", "db.system", "db.type"];
pub const DB_NAMESPACE: Keys = &["db.namespace", "db.name", "db.instance"];
pub const DB_QUERY_TEXT: Keys = &["db.query.text", "db.statement"];
pub const DB_QUERY_SUMMARY: Keys = &["db.query.summary"];
pub const DB_OPERATION: Keys = &["db.operation.name", "db.operation"];
pub const DB_COLLECTION: Keys =
    &["db.collection.name", "db.sql.table", "db.mongodb.collection", "db.cassandra.table", "aws.dynamodb.table_names"];

pub const HTTP_METHOD: Keys = &["http.request.method", "http.method"];
pub const HTTP_STATUS: Keys = &["http.response.status_code", "http.status_code"];
pub const HTTP_ROUTE: Keys = &["http.route", "url.template"];
pub const URL_FULL: Keys = &["url.full", "http.url"];
pub const URL_PATH: Keys = &["url.path", "http.target"];
/// Where a query string may be.
pub const URL_WITH_QUERY: Keys = &["url.query", "url.full", "http.url", "http.target"];

pub const RPC_SYSTEM: Keys = &["rpc.system.name", "rpc.system"];
pub const RPC_SERVICE: Keys = &["rpc.service"];
pub const RPC_METHOD: Keys = &["rpc.method"];
pub const RPC_STATUS: Keys = &["rpc.response.status_code", "rpc.status_code", "rpc.grpc.status_code"];

pub const MESSAGING_SYSTEM: Keys = &["messaging.system"];
pub const MESSAGING_DESTINATION: Keys =
    &["messaging.destination.template", "messaging.destination.name", "messaging.destination"];
pub const MESSAGING_OPERATION: Keys = &["messaging.operation.name", "messaging.operation", "messaging.operation.type"];

/// Names of one host or container, best first: spans that share one were timed by one clock.
pub const CLOCK: Keys = &["host.id", "host.name", "k8s.pod.name", "container.id", "service.instance.id"];
