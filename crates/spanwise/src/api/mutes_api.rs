//! `/api/spanwise/mutes`: findings that somebody has decided to live with, why, and until when. They are kept in the
//! data directory and stay visible, marked as muted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use spanwise_journal::disk::{Disk, read_file};

use super::{ApiError, App};
use crate::time_text::{format_time, parse_time};

type Answer = Result<axum::Json<Json>, ApiError>;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/spanwise/mutes", get(list).post(add))
        .route("/api/spanwise/mutes/{finding}", delete(remove))
}

/// Mutes kept; a list that long is no longer read by anybody.
const MUTES: usize = 10_000;
const REASON_BYTES: usize = 1_000;
const FILE_BYTES: u64 = 32 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    pub finding: String,
    pub reason: String,
    /// RFC 3339; nothing means for ever.
    pub until: Option<String>,
    pub muted_at: String,
}

/// The list, and the file that holds it.
pub struct Mutes {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    by_finding: Mutex<BTreeMap<String, Mute>>,
}

impl Mutes {
    /// Reads `mutes.json` of the data directory. A file that cannot be read is set aside under another name, and said.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let path = dir.join("mutes.json");
        let mut by_finding = BTreeMap::new();
        match read_file(disk.as_ref(), &path, FILE_BYTES) {
            Ok(bytes) => match serde_json::from_slice::<Vec<Mute>>(&bytes) {
                Ok(mutes) => by_finding.extend(mutes.into_iter().map(|mute| (mute.finding.clone(), mute))),
                Err(error) => {
                    let aside = path.with_extension("unreadable");
                    let _ = disk.rename(&path, &aside);
                    tracing::warn!(%error, aside = %aside.display(), "cannot read the muted findings: set aside");
                }
            },
            Err(error) if error.is_missing() => {}
            Err(error) => tracing::warn!(%error, "cannot read the muted findings"),
        }
        Self { disk, path, by_finding: Mutex::new(by_finding) }
    }

    /// Written whole, aside, and synced before it takes the place of the list before.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Mute>) -> Result<(), ApiError>) -> Result<(), ApiError> {
        let mut held = self.by_finding.lock();
        let mut next = held.clone();
        change(&mut next)?;
        let list: Vec<&Mute> = next.values().collect();
        let bytes = serde_json::to_vec(&list).map_err(ApiError::internal)?;
        let new = self.path.with_extension("new");
        let written = match self.disk.remove(&new) {
            Err(error) if !error.is_missing() => Err(error),
            _ => self
                .disk
                .put_new(&new, &[&bytes])
                .and_then(|()| self.disk.rename(&new, &self.path))
                .and_then(|()| self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))),
        };
        written.map_err(|error| ApiError::internal(format!("cannot keep the mute: {error}")))?;
        *held = next;
        Ok(())
    }

    /// Those whose end has not come.
    fn at(&self, now: u64) -> Vec<Mute> {
        let holds =
            |mute: &&Mute| mute.until.as_deref().is_none_or(|until| parse_time(until).is_ok_and(|until| until > now));
        self.by_finding.lock().values().filter(holds).cloned().collect()
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn check_id(finding: &str) -> Result<(), ApiError> {
    match finding.len() == 16 && finding.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!("{finding:?} is not a finding's id: 16 hex digits are"))),
    }
}

async fn list(State(app): State<App>) -> Answer {
    Ok(axum::Json(json!({"mutes": app.mutes.at(now())})))
}

#[derive(Deserialize)]
struct NewMute {
    finding: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    until: Option<String>,
}

async fn add(State(app): State<App>, body: axum::body::Bytes) -> Result<(StatusCode, axum::Json<Json>), ApiError> {
    let new: NewMute = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"finding": "0123456789abcdef", "reason": "known", "until": "2027-01-01T00:00:00Z"}"#;
        ApiError::bad_request(format!("cannot read the mute: {error}; such as {example} is one"))
    })?;
    check_id(&new.finding)?;
    if new.reason.len() > REASON_BYTES {
        return Err(ApiError::bad_request(format!("a reason has at most {REASON_BYTES} bytes")));
    }
    let until = new.until.map(|until| parse_time(&until)).transpose().map_err(ApiError::bad_request)?;
    if until.is_some_and(|until| until <= now()) {
        return Err(ApiError::bad_request("until must lie ahead"));
    }
    let mute = Mute {
        finding: new.finding.to_ascii_lowercase(),
        reason: new.reason,
        until: until.map(format_time),
        muted_at: format_time(now()),
    };
    let kept = mute.clone();
    let mutes = Arc::clone(&app.mutes);
    let adding = move || {
        mutes.change(|list| {
            if list.len() >= MUTES && !list.contains_key(&mute.finding) {
                return Err(ApiError::bad_request(format!("{MUTES} findings are muted, which is the most")));
            }
            list.insert(mute.finding.clone(), mute);
            Ok(())
        })
    };
    tokio::task::spawn_blocking(adding).await.map_err(ApiError::internal)??;
    Ok((StatusCode::CREATED, axum::Json(json!(kept))))
}

async fn remove(State(app): State<App>, UrlPath(finding): UrlPath<String>) -> Answer {
    check_id(&finding)?;
    let mutes = Arc::clone(&app.mutes);
    let removing = move || {
        mutes.change(|list| match list.remove(&finding.to_ascii_lowercase()) {
            Some(_) => Ok(()),
            None => Err(ApiError::not_found(format!("finding {finding} is not muted"))),
        })
    };
    tokio::task::spawn_blocking(removing).await.map_err(ApiError::internal)??;
    Ok(axum::Json(json!({"mutes": app.mutes.at(now())})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_journal::disk::RealDisk;

    fn mute(finding: &str, until: Option<&str>) -> Mute {
        Mute {
            finding: finding.to_owned(),
            reason: "known".to_owned(),
            until: until.map(str::to_owned),
            muted_at: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn put(mutes: &Mutes, mute: Mute) {
        let put = mutes.change(|list| {
            list.insert(mute.finding.clone(), mute);
            Ok(())
        });
        assert!(put.is_ok());
    }

    #[test]
    fn mutes_are_there_after_a_restart_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Mutes::open(Arc::new(RealDisk), dir.path());
        put(&open(), mute("aaaaaaaaaaaaaaaa", None));
        put(&open(), mute("bbbbbbbbbbbbbbbb", Some("2026-06-01T00:00:00Z")));
        let at = |text: &str| open().at(parse_time(text).unwrap()).iter().map(|mute| mute.finding.clone()).collect();
        let both: Vec<String> = at("2026-05-31T00:00:00Z");
        assert_eq!(both, ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"]);
        let later: Vec<String> = at("2026-06-02T00:00:00Z");
        assert_eq!(later, ["aaaaaaaaaaaaaaaa"]);
    }

    #[test]
    fn an_unreadable_list_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mutes.json"), "{").unwrap();
        let mutes = Mutes::open(Arc::new(RealDisk), dir.path());
        assert!(mutes.at(0).is_empty());
        assert!(dir.path().join("mutes.unreadable").exists());
        put(&mutes, mute("cccccccccccccccc", None));
        assert_eq!(Mutes::open(Arc::new(RealDisk), dir.path()).at(0).len(), 1);
    }

    #[test]
    fn ids_are_checked() {
        assert!(check_id("0123456789abcdef").is_ok());
        for bad in ["", "0123", "0123456789abcdeg", "../../../../etc/"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
