//! What requests and answers are called: HTTP (stable) and RPC conventions.

use http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanRef, Status};

/// Of a URL, a query, an agent's name: more tells nobody anything.
const MAX_TEXT: usize = 2048;

/// The known methods; others would make endless names.
pub(super) fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "PATCH" => "PATCH",
        "QUERY" => "QUERY",
        _ => "_OTHER",
    }
}

pub(super) fn add_method(wanted: &Method, attributes: &mut Vec<KeyValue>) -> &'static str {
    let known = method(wanted);
    attributes.push(KeyValue::new("http.request.method", known));
    if known == "_OTHER" {
        attributes.push(KeyValue::new("http.request.method_original", cut(wanted.as_str())));
        return "HTTP";
    }
    known
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// `package.Service/Method` of a gRPC path.
pub(super) fn rpc(uri: &Uri) -> Option<&str> {
    uri.path().strip_prefix('/').filter(|name| name.contains('/') && name.len() <= 256)
}

pub(super) fn add_rpc(name: &str, attributes: &mut Vec<KeyValue>) {
    attributes.push(KeyValue::new("rpc.system.name", "grpc"));
    attributes.push(KeyValue::new("rpc.method", name.to_owned()));
}

pub(super) fn add_version(version: Version, attributes: &mut Vec<KeyValue>) {
    let text = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => return,
    };
    attributes.push(KeyValue::new("network.protocol.version", text));
}

/// The address of the server, from the URL, or from what the client called it.
pub(super) fn add_server(uri: &Uri, headers: &HeaderMap, attributes: &mut Vec<KeyValue>) {
    let host = || headers.get(header::HOST)?.to_str().ok()?.parse::<http::uri::Authority>().ok();
    let Some(authority) = uri.authority().cloned().or_else(host) else { return };
    attributes.push(KeyValue::new("server.address", authority.host().to_owned()));
    let port = authority.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    });
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
}

/// The whole URL without user and password, and with signatures blanked.
pub(super) fn full_url(uri: &Uri) -> String {
    let mut url = String::new();
    if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
        url.push_str(scheme);
        url.push_str("://");
        if authority.as_str().contains('@') {
            url.push_str("REDACTED:REDACTED@");
        }
        url.push_str(authority.as_str().rsplit('@').next().unwrap_or_default());
    }
    url.push_str(uri.path());
    if let Some(query) = uri.query() {
        url.push('?');
        url.push_str(&redacted(query));
    }
    cut(&url)
}

/// Signed URLs are as good as a password.
pub(super) fn redacted(query: &str) -> String {
    let secret = |key: &str| {
        ["awsaccesskeyid", "signature", "sig", "x-goog-signature", "x-amz-signature", "access_token", "token"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(key))
    };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((key, _)) if secret(key) => format!("{key}=REDACTED"),
        _ => part.to_owned(),
    });
    cut(&parts.collect::<Vec<_>>().join("&"))
}

pub(super) fn cut(text: &str) -> String {
    text.char_indices().nth(MAX_TEXT).and_then(|(end, _)| text.get(..end)).unwrap_or(text).to_owned()
}

/// Servers are to blame from 500 on, calls have failed from 400 on.
pub(super) fn set_http_status(span: &SpanRef<'_>, status: StatusCode, error_from: u16) {
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if status.as_u16() >= error_from {
        span.set_attribute(KeyValue::new("error.type", status.as_u16().to_string()));
        span.set_status(Status::error(""));
    }
}

const RPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Those that are a server's own fault.
const RPC_SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// From headers (of an answer without a message) or trailers; `false` when they do not say.
pub(super) fn set_rpc_status(span: &SpanRef<'_>, headers: &HeaderMap, is_server: bool) -> bool {
    let Some(code) = headers.get("grpc-status") else { return false };
    let number = code.to_str().ok().and_then(|code| code.parse::<usize>().ok());
    let name = number.and_then(|number| RPC_CODES.get(number)).copied().unwrap_or("UNKNOWN");
    span.set_attribute(KeyValue::new("rpc.response.status_code", name));
    let is_error = if is_server { RPC_SERVER_ERRORS.contains(&name) } else { name != "OK" };
    if is_error {
        let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
        span.set_attribute(KeyValue::new("error.type", name));
        span.set_status(Status::error(cut(message)));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_tell_no_secrets() {
        let url = full_url(&Uri::from_static("https://user:secret@bank.example:8443/pay?id=7&Sig=abc&x"));
        assert_eq!(url, "https://REDACTED:REDACTED@bank.example:8443/pay?id=7&Sig=REDACTED&x");
        assert_eq!(full_url(&Uri::from_static("/only/a/path")), "/only/a/path");
        assert_eq!(cut(&"\u{e4}".repeat(5000)).chars().count(), MAX_TEXT);
    }

    #[test]
    fn servers() {
        let attributes = |uri: &'static str, host: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(
                    header::HOST,
                    http::HeaderValue::from_str(host).unwrap_or(http::HeaderValue::from_static("[")),
                );
            }
            let mut found = Vec::new();
            add_server(&Uri::from_static(uri), &headers, &mut found);
            found.iter().map(|pair| pair.value.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(attributes("https://h/x", None), ["h", "443"]);
        assert_eq!(attributes("/x", Some("h:81")), ["h", "81"]);
        assert_eq!(attributes("/x", Some("h")), ["h"]);
        assert!(attributes("/x", Some("\u{7f}")).is_empty() && attributes("/x", None).is_empty());
    }

    #[test]
    fn methods_and_calls() {
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), "_OTHER");
        assert_eq!(rpc(&Uri::from_static("/shop.Cart/Get")), Some("shop.Cart/Get"));
        assert_eq!(rpc(&Uri::from_static("/health")), None);
    }
}
