//! A span for each call that a client makes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use http::{Request, Response};
use opentelemetry::trace::{SpanBuilder, SpanKind};
use opentelemetry::{Context, KeyValue};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::body::{Open, TracedBody, failed};
use super::names;

/// Sends the trace's context along, and notes what came back.
///
/// For hyper's client and other services that take an `http::Request`; for tonic, around its `Channel`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ClientLayer;

impl ClientLayer {
    /// The layer.
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = TracedClient<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TracedClient { inner }
    }
}

/// A client whose calls are traced.
#[derive(Clone, Debug)]
pub struct TracedClient<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for TracedClient<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: std::fmt::Display,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = ClientFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let is_grpc = names::is_grpc(request.headers()) && names::rpc(request.uri()).is_some();
        let rpc = names::rpc(request.uri()).filter(|_| is_grpc);
        let context = start(request.method(), request.uri(), request.headers(), rpc);
        crate::inject(&context, request.headers_mut());
        let inner = {
            let _active = context.clone().attach();
            self.inner.call(request)
        };
        ClientFuture { inner, open: Some(Open { context, is_server: false, awaits_rpc_status: is_grpc }) }
    }
}

pub(super) fn start(method: &http::Method, uri: &http::Uri, headers: &http::HeaderMap, rpc: Option<&str>) -> Context {
    let mut attributes = Vec::with_capacity(8);
    let name = match rpc {
        Some(rpc) => {
            names::add_rpc(rpc, &mut attributes);
            rpc.to_owned()
        }
        None => {
            let method = names::add_method(method, &mut attributes);
            attributes.push(KeyValue::new("url.full", names::full_url(uri)));
            method.to_owned()
        }
    };
    names::add_server(uri, headers, &mut attributes);
    let span = SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes(attributes);
    crate::start(span, &Context::current())
}

pin_project! {
    /// The answer to a [`TracedClient`].
    #[derive(Debug)]
    pub struct ClientFuture<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }
}

impl<F, R, E> Future for ClientFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: std::fmt::Display,
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
                    failed::<E>(&open.context, error.to_string());
                }
                Poll::Ready(Err(error))
            }
        }
    }
}
