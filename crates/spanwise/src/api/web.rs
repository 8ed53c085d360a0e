//! The embedded page, and what stands before every request: `Host`, `X-Spanwise`, security headers.

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;

#[derive(rust_embed::RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../../ui/dist"]
struct Page;

/// A file of the page; for every other path the page itself, since its addresses are its own.
pub async fn page(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") {
        return (StatusCode::NOT_FOUND, axum::Json(serde_json::json!({"error": "unknown path"}))).into_response();
    }
    let (name, file) = match Page::get(path).filter(|_| !path.is_empty()) {
        Some(file) => (path, Some(file)),
        None => ("index.html", Page::get("index.html")),
    };
    let Some(file) = file else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    // Built files have their hash in their name.
    let caching = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, caching)], file.data.into_owned()).into_response()
}

const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Questions that are too long for an address: asked by POST, they change nothing.
const ASKED_BY_POST: &[&str] = &["/api/spanwise/compare"];

/// Pages of other origins can make a browser send requests here; they cannot choose `Host`, nor set `X-Spanwise`.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).or_else(|| request.uri().host());
    if !host.is_some_and(|host| is_allowed(host, &app.hosts)) {
        let message = "this Host is not allowed: start with --allow-host NAME to serve under that name\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && !ASKED_BY_POST.contains(&request.uri().path());
    if changes && !request.headers().contains_key("x-spanwise") {
        return (StatusCode::FORBIDDEN, "requests that change something need the header X-Spanwise\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Addresses cannot be rebound by somebody's DNS; names can, unless they are ours.
fn is_allowed(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_allowed() {
        let names = ["traces.example.com".to_owned()];
        for (host, allowed) in [
            ("localhost:16686", true),
            ("127.0.0.1", true),
            ("[::1]:16686", true),
            ("traces.example.com", true),
            ("evil.example.com:16686", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(host, &names), allowed, "{host}");
        }
    }
}
