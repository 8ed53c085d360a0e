//! The body of an answer: its span ends when the last byte is through, or nobody wants it any more.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use pin_project_lite::pin_project;

use super::names;

pin_project! {
    /// A body that ends its request's span.
    #[derive(Debug)]
    pub struct TracedBody<B> {
        #[pin]
        inner: B,
        open: Option<Open>,
    }
}

/// A span that waits for its end.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) context: Context,
    pub(super) is_server: bool,
    /// The status is in the trailers.
    pub(super) awaits_rpc_status: bool,
}

impl Open {
    /// The status of what the head of a response says.
    pub(super) fn answered<B>(&mut self, response: &Response<B>) {
        let span = self.context.span();
        if self.awaits_rpc_status {
            self.awaits_rpc_status = !names::set_rpc_status(&span, response.headers(), self.is_server);
        } else {
            // What a client did wrong is no error of the server.
            names::set_http_status(&span, response.status(), if self.is_server { 500 } else { 400 });
        }
    }
}

/// No answer at all.
pub(super) fn failed<E>(context: &Context, message: String) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", std::any::type_name::<E>()));
    span.set_status(Status::error(message));
}

impl Drop for Open {
    fn drop(&mut self) {
        self.context.span().end();
    }
}

impl<B> TracedBody<B> {
    pub(super) fn new(inner: B, open: Option<Open>) -> Self {
        Self { inner, open }
    }
}

impl<B: Body> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let active = this.open.as_ref().map(|open| open.context.clone().attach());
        let polled = this.inner.poll_frame(task);
        drop(active);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => *this.open = None,
            Poll::Ready(Some(Err(_))) => {
                if let Some(open) = this.open.take() {
                    open.context.span().set_status(Status::error("the body broke off"));
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(trailers), Some(open)) = (frame.trailers_ref(), this.open.as_mut())
                    && open.awaits_rpc_status
                {
                    open.awaits_rpc_status = !names::set_rpc_status(&open.context.span(), trailers, open.is_server);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for TracedBody<B> {
    fn default() -> Self {
        Self { inner: B::default(), open: None }
    }
}
