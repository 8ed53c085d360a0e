//! A bucket as a [`Disk`]: where blocks and manifests lie when they are kept in object storage.
//!
//! Objects are whole and never change: a file that is written here becomes an object at its sync, a new name is a put
//! that fails when the name exists. Reads go through a cache of pieces in memory, because a block is read in many small
//! places and each request takes milliseconds. All requests run on a runtime of their own, so that callers may block on
//! whatever thread they are.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use lru::LruCache;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientOptions, CopyMode, CopyOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use parking_lot::Mutex;
use spanwise_journal::DiskError;
use spanwise_journal::disk::{Disk, DiskFile};

/// Pieces that are read and kept at a time, and how many of them: 64 MiB in all.
const PIECE_BYTES: u64 = 256 << 10;
const PIECES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Largest file that can be written: blocks stay far below, and a put of one part may have 5 GiB.
const OBJECT_BYTES: usize = 1 << 30;
/// Until the head of an answer is there, for one try; for all tries of one request; and for all of its answer.
const REQUEST: Duration = Duration::from_secs(30);
const RETRIES: Duration = Duration::from_secs(60);
const OPERATION: Duration = Duration::from_secs(180);

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {url}: {reason}")]
pub struct ObjectsError {
    pub url: String,
    pub reason: String,
}

/// Where in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl {
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

impl std::fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

impl std::str::FromStr for ObjectUrl {
    type Err = String;

    /// Reads `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is not of the form s3://BUCKET/PREFIX");
        let rest = text.strip_prefix("s3://").ok_or_else(expected)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = |name: &str| {
            (3..=63).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte))
        };
        let prefix = prefix.trim_matches('/');
        if !is_bucket(bucket) || ObjectPath::parse(prefix).is_err() {
            return Err(expected());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// See the module.
pub struct ObjectDisk {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for ObjectDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectDisk({})", self.shared.url)
    }
}

struct Shared {
    url: ObjectUrl,
    store: Arc<dyn ObjectStore>,
    runtime: Option<tokio::runtime::Runtime>,
    pieces: Mutex<LruCache<(ObjectPath, u64), Bytes>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Waits for nothing: the last handle may go on a thread that must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Result<T, E = DiskError> = std::result::Result<T, E>;

impl ObjectDisk {
    /// A bucket of S3 or of a server that speaks it. `AWS_*` variables say where and as whom, as AWS' own tools have
    /// them: `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_ENDPOINT_URL`;
    /// without keys those of the instance are used. Plain HTTP is spoken only to an endpoint whose URL says so.
    ///
    /// # Errors
    /// When the settings do not fit, or the bucket cannot be listed.
    pub fn s3(url: ObjectUrl) -> Result<Self, ObjectsError> {
        let fail = |reason: String| ObjectsError { url: url.to_string(), reason };
        let builder = AmazonS3Builder::from_env()
            .with_bucket_name(&url.bucket)
            .with_retry(RetryConfig { retry_timeout: RETRIES, ..RetryConfig::default() })
            .with_http_connector(Hyper);
        let hint = match builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId) {
            Some(_) => "",
            None => "; AWS_ACCESS_KEY_ID is not set, so that this machine was asked for the keys of an instance of AWS",
        };
        let store = builder.build().map_err(|error| fail(error.to_string()))?;
        let disk = Self::over(url.clone(), Arc::new(store)).map_err(|error| fail(error.to_string()))?;
        disk.list(Path::new(&url.prefix)).map_err(|error| fail(format!("{}{hint}", chain(&error.source))))?;
        Ok(disk)
    }

    pub(crate) fn over(url: ObjectUrl, store: Arc<dyn ObjectStore>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("spanwise-objects")
            .enable_all()
            .build()?;
        let pieces = Mutex::new(LruCache::new(PIECES));
        Ok(Self { shared: Arc::new(Shared { url, store, runtime: Some(runtime), pieces }) })
    }

    pub fn url(&self) -> &ObjectUrl {
        &self.shared.url
    }
}

/// Makes HTTP clients of hyper and rustls.
#[derive(Debug)]
struct Hyper;

impl HttpConnector for Hyper {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        Ok(HttpClient::new(HyperClient(Client::builder(TokioExecutor::new()).build(https.build()))))
    }
}

#[derive(Debug)]
struct HyperClient(Client<hyper_rustls::HttpsConnector<TcpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for HyperClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(REQUEST, self.0.request(request)).await;
        let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
            HttpError::new(kind, error)
        })?;
        let interrupted = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(interrupted))))
    }
}

/// An error and what it came from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let own = error.to_string();
        if !text.contains(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        source = error.source();
    }
    text
}

fn io_error(error: object_store::Error) -> io::Error {
    let kind = match &error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            io::ErrorKind::AlreadyExists
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, chain(&error))
}

/// The name of a path's object.
fn object(path: &Path) -> ObjectPath {
    path.iter().filter_map(|part| part.to_str()).filter(|part| *part != "/").collect()
}

impl Shared {
    /// Runs a request and waits for its answer.
    fn wait<T, F, R>(self: &Arc<Self>, operation: &'static str, path: &Path, request: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<dyn ObjectStore>, ObjectPath) -> R,
        R: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let request = request(Arc::clone(&self.store), object(path));
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                let late = |_| {
                    let source = format!("no answer within {} s", OPERATION.as_secs()).into();
                    object_store::Error::Generic { store: "S3", source }
                };
                let _ = reply.send(tokio::time::timeout(OPERATION, request).await.map_err(late).flatten());
            });
        }
        let stopped = |_| DiskError::new(operation, path, io::Error::other("object storage has been closed"));
        answer.recv().map_err(stopped)?.map_err(|error| DiskError::new(operation, path, io_error(error)))
    }

    fn put(self: &Arc<Self>, operation: &'static str, path: &Path, bytes: Vec<u8>, mode: PutMode) -> Result<()> {
        self.wait(operation, path, |store, name| async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            store.put_opts(&name, PutPayload::from(bytes), options).await
        })?;
        Ok(())
    }

    fn range(self: &Arc<Self>, path: &Path, from: u64, to: u64) -> Result<Bytes> {
        self.wait("read", path, |store, name| async move { store.get_range(&name, from..to).await })
    }
}

impl Disk for ObjectDisk {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let content = Some(Mutex::new(Written::default()));
        Ok(Arc::new(ObjectFile { shared: Arc::clone(&self.shared), path: path.to_owned(), len: 0, content }))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.open_read(path)
    }

    fn open_read(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let found = self.shared.wait("open", path, |store, name| async move { store.head(&name).await })?;
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(ObjectFile { shared, path: path.to_owned(), len: found.size, content: None }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let target = object(to);
        self.shared.wait("rename", from, |store, name| async move { store.rename(&name, &target).await })
    }

    fn link_new(&self, from: &Path, to: &Path) -> Result<()> {
        let source = object(from);
        self.shared.wait("link", to, |store, name| async move {
            let options = CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
            store.copy_opts(&source, &name, options).await
        })
    }

    fn put_new(&self, path: &Path, parts: &[&[u8]]) -> Result<()> {
        self.shared.put("write", path, parts.concat(), PutMode::Create)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.shared.wait("remove", path, |store, name| async move { store.delete(&name).await })
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let found = self.shared.wait("list", dir, |store, name| async move {
            let prefix = (!name.as_ref().is_empty()).then_some(&name);
            store.list_with_delimiter(prefix).await
        })?;
        let objects = found.objects.iter().map(|object| &object.location);
        let names: BTreeSet<String> =
            objects.chain(&found.common_prefixes).filter_map(|path| path.filename().map(str::to_owned)).collect();
        Ok(names.into_iter().collect())
    }

    /// Directories are parts of names here.
    fn create_dir_all(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn free_space(&self, _: &Path) -> Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// There is an object of this name, and it is ours.
    is_put: bool,
}

/// An object, or what will be one at its sync.
struct ObjectFile {
    shared: Arc<Shared>,
    path: std::path::PathBuf,
    /// Of an object that is read.
    len: u64,
    content: Option<Mutex<Written>>,
}

impl ObjectFile {
    fn fail(&self, operation: &'static str, reason: &str) -> DiskError {
        DiskError::new(operation, &self.path, io::Error::other(reason.to_owned()))
    }

    fn written(&self, operation: &'static str) -> Result<&Mutex<Written>> {
        self.content.as_ref().ok_or_else(|| self.fail(operation, "an object does not change once it is written"))
    }

    fn piece(&self, number: u64) -> Result<Bytes> {
        let key = (object(&self.path), number);
        if let Some(piece) = self.shared.pieces.lock().get(&key) {
            return Ok(piece.clone());
        }
        let from = number * PIECE_BYTES;
        let piece = self.shared.range(&self.path, from, (from + PIECE_BYTES).min(self.len))?;
        self.shared.pieces.lock().put(key, piece.clone());
        Ok(piece)
    }
}

impl DiskFile for ObjectFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let end = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(bytes.len());
        if end > OBJECT_BYTES {
            return Err(self.fail("write", "larger than an object may be"));
        }
        let mut written = self.written("write")?.lock();
        if written.bytes.len() < end {
            written.bytes.resize(end, 0);
        }
        if let Some(place) = written.bytes.get_mut(end - bytes.len()..end) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if let Some(written) = &self.content {
            let written = written.lock();
            let rest = written.bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            return Ok(count);
        }
        let end = offset.saturating_add(buffer.len() as u64).min(self.len);
        if offset >= end {
            return Ok(0);
        }
        let count = (end - offset) as usize;
        if count as u64 > 4 * PIECE_BYTES {
            buffer[..count].copy_from_slice(&self.shared.range(&self.path, offset, end)?);
            return Ok(count);
        }
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let piece = self.piece(at / PIECE_BYTES)?;
            let rest = piece.get((at % PIECE_BYTES) as usize..).unwrap_or_default();
            let step = rest.len().min(count - done);
            if step == 0 {
                return Err(self.fail("read", "the object is shorter than it was"));
            }
            buffer[done..done + step].copy_from_slice(&rest[..step]);
            done += step;
        }
        Ok(count)
    }

    fn len(&self) -> Result<u64> {
        Ok(self.content.as_ref().map_or(self.len, |written| written.lock().bytes.len() as u64))
    }

    fn preallocate(&self, len: u64) -> Result<()> {
        self.set_len(len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let len = usize::try_from(len).ok().filter(|len| *len <= OBJECT_BYTES);
        let len = len.ok_or_else(|| self.fail("truncate", "larger than an object may be"))?;
        self.written("truncate")?.lock().bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut written = self.written("sync")?.lock();
        let mode = if written.is_put { PutMode::Overwrite } else { PutMode::Create };
        self.shared.put("sync", &self.path, written.bytes.clone(), mode)?;
        written.is_put = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn disk() -> ObjectDisk {
        ObjectDisk::over("s3://bucket/some/where".parse().unwrap(), Arc::new(InMemory::new())).unwrap()
    }

    #[test]
    fn urls_are_read_and_written() {
        for text in ["s3://bucket", "s3://my-bucket/a", "s3://bucket/a/b"] {
            assert_eq!(text.parse::<ObjectUrl>().unwrap().to_string(), text);
        }
        assert_eq!("s3://bucket/a/".parse::<ObjectUrl>().unwrap().prefix, "a");
        for text in ["", "bucket", "http://bucket", "s3://", "s3://Bucket/a", "s3://bucket/a//b", "s3://bucket/../x"] {
            assert!(text.parse::<ObjectUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let disk = disk();
        let path = Path::new("some/where/manifest/1.json");
        disk.put_new(path, &[b"one", b"two"]).unwrap();
        assert!(disk.put_new(path, &[b"three"]).unwrap_err().is_taken());
        assert!(disk.create_new(path).unwrap().sync_data().unwrap_err().is_taken());
        let mut bytes = [0; 16];
        let file = disk.open_read(path).unwrap();
        assert_eq!((file.read_at(&mut bytes, 0).unwrap(), &bytes[..6]), (6, &b"onetwo"[..]));
        assert!(file.write_at(b"x", 0).is_err());
        assert!(disk.open_read(Path::new("some/where/else")).err().unwrap().is_missing());
        let other = Path::new("some/where/manifest/2.json");
        disk.link_new(path, other).unwrap();
        assert!(disk.link_new(path, other).unwrap_err().is_taken());
        assert_eq!(disk.list(Path::new("some/where/manifest")).unwrap(), ["1.json", "2.json"]);
        assert_eq!(disk.list(Path::new("some/where")).unwrap(), ["manifest"]);
        disk.remove(path).unwrap();
        disk.rename(other, path).unwrap();
        assert_eq!(disk.list(Path::new("some/where/manifest")).unwrap(), ["1.json"]);
    }

    #[test]
    fn reads_of_any_place_and_length_are_right() {
        let disk = disk();
        let content: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|at| (at * 7 % 251) as u8).collect();
        disk.put_new(Path::new("file"), &[&content]).unwrap();
        let file = disk.open_read(Path::new("file")).unwrap();
        assert_eq!(file.len().unwrap(), content.len() as u64);
        let piece = PIECE_BYTES as usize;
        for (offset, count) in
            [(0, 1), (piece - 3, 7), (5, 2 * piece), (0, content.len()), (3 * piece, 99), (content.len(), 1)]
        {
            let mut buffer = vec![0; count];
            let read = file.read_at(&mut buffer, offset as u64).unwrap();
            assert_eq!(read, count.min(content.len() - offset));
            assert_eq!(buffer[..read], content[offset..offset + read]);
        }
        assert_eq!(file.read_at(&mut [0; 4], u64::MAX).unwrap(), 0);
    }

    #[test]
    fn what_is_written_piecewise_is_one_object() {
        let disk = disk();
        let file = disk.create_new(Path::new("file")).unwrap();
        file.write_at(b"world", 5).unwrap();
        file.write_at(b"hello", 0).unwrap();
        assert!(disk.open_read(Path::new("file")).is_err());
        file.sync_data().unwrap();
        file.write_at(b"!", 10).unwrap();
        file.sync_data().unwrap();
        let mut bytes = [0; 11];
        assert_eq!(disk.open_read(Path::new("file")).unwrap().read_at(&mut bytes, 0).unwrap(), 11);
        assert_eq!(&bytes, b"helloworld!");
        assert!(file.write_at(b"x", OBJECT_BYTES as u64).is_err());
    }
}
