//! A span for each request that a server answers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use http::{Request, Response};
use opentelemetry::trace::{Link, SpanBuilder, SpanKind};
use opentelemetry::{Context, KeyValue};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::body::{Open, TracedBody, failed};
use super::names;
use crate::propagation::OtherTraces;

/// Continues the caller's trace, or begins one.
///
/// For axum, `Router::layer(ServerLayer::new())` after the routes: the span is then named after the route (feature
/// `axum`). For tonic, `Server::builder().layer(ServerLayer::new())`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ServerLayer;

impl ServerLayer {
    /// The layer.
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = TracedServer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TracedServer { inner }
    }
}

/// A service whose requests are traced.
#[derive(Clone, Debug)]
pub struct TracedServer<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for TracedServer<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = ServerFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_grpc = names::is_grpc(request.headers()) && names::rpc(request.uri()).is_some();
        let context = start(&request, is_grpc);
        let inner = {
            let _active = context.clone().attach();
            self.inner.call(request)
        };
        ServerFuture { inner, open: Some(Open { context, is_server: true, awaits_rpc_status: is_grpc }) }
    }
}

fn start<B>(request: &Request<B>, is_grpc: bool) -> Context {
    let parent = crate::extract(request.headers());
    let mut attributes = Vec::with_capacity(12);
    let name = match names::rpc(request.uri()).filter(|_| is_grpc) {
        Some(rpc) => {
            names::add_rpc(rpc, &mut attributes);
            rpc.to_owned()
        }
        None => {
            let method = names::add_method(request.method(), &mut attributes);
            attributes.push(KeyValue::new("url.path", names::cut(request.uri().path())));
            attributes.extend(request.uri().query().map(|query| KeyValue::new("url.query", names::redacted(query))));
            attributes.push(KeyValue::new("url.scheme", request.uri().scheme_str().unwrap_or("http").to_owned()));
            match route(request) {
                Some(route) => {
                    let name = format!("{method} {route}");
                    attributes.push(KeyValue::new("http.route", route));
                    name
                }
                None => method.to_owned(),
            }
        }
    };
    names::add_server(request.uri(), request.headers(), &mut attributes);
    names::add_version(request.version(), &mut attributes);
    if let Some(agent) = request.headers().get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()) {
        attributes.push(KeyValue::new("user_agent.original", names::cut(agent)));
    }
    add_peer(request, &mut attributes);
    let mut builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
    if let Some(others) = parent.get::<OtherTraces>() {
        builder = builder.with_links(others.0.iter().map(|span| Link::with_context(span.clone())).collect());
    }
    crate::start(builder, &parent)
}

#[cfg(feature = "axum")]
fn route<B>(request: &Request<B>) -> Option<String> {
    request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned())
}

#[cfg(not(feature = "axum"))]
fn route<B>(_request: &Request<B>) -> Option<String> {
    None
}

#[cfg(feature = "axum")]
fn add_peer<B>(request: &Request<B>, attributes: &mut Vec<KeyValue>) {
    use axum::extract::ConnectInfo;
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<std::net::SocketAddr>>() {
        attributes.push(KeyValue::new("network.peer.address", peer.ip().to_string()));
        attributes.push(KeyValue::new("network.peer.port", i64::from(peer.port())));
    }
}

#[cfg(not(feature = "axum"))]
fn add_peer<B>(_request: &Request<B>, _attributes: &mut Vec<KeyValue>) {}

pin_project! {
    /// The answer of a [`TracedServer`].
    #[derive(Debug)]
    pub struct ServerFuture<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }
}

impl<F, R, E> Future for ServerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<TracedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = {
            let _active = this.open.as_ref().map(|open| open.context.clone().attach());
            ready!(this.inner.poll(task))
        };
        let mut open = this.open.take();
        match result {
            Ok(response) => {
                if let Some(open) = &mut open {
                    open.answered(&response);
                }
                Poll::Ready(Ok(response.map(|body| TracedBody::new(body, open))))
            }
            Err(error) => {
                if let Some(open) = &open {
                    failed::<E>(&open.context, "the service failed".to_owned());
                }
                Poll::Ready(Err(error))
            }
        }
    }
}
