//! A shared Spanwise that ends while a run lasts (somebody killed it, its disk failed) is started again at the same address,
//! so that the agents' delivery goes on.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spanwise_store::Store;

use super::endpoint::Endpoint;
use super::say;
use super::server::{Connection, Shared};

const LOOK: Duration = Duration::from_secs(1);
/// What cannot be started so often will not be started.
const TRIES: u32 = 3;

/// Looks after the server until it is dropped.
pub struct Keeper {
    page: Arc<Mutex<String>>,
    _until_dropped: Sender<()>,
}

impl Keeper {
    /// `None` where the server is not a shared one.
    pub fn start(connection: &Connection) -> Option<Keeper> {
        let directory = connection.data_dir.clone().filter(|_| connection.lease.is_some())?;
        let endpoint = Endpoint { is_default: false, ..connection.endpoint.clone() };
        let page = Arc::new(Mutex::new(connection.page.clone()?));
        let (until_dropped, dropped) = channel::<()>();
        let shown = Arc::clone(&page);
        let look = move || {
            let (mut lease, mut failures) = (None, 0);
            while failures < TRIES && dropped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if Store::holder(&directory).is_some() || endpoint.listens() {
                    continue;
                }
                match Shared::ensure(&directory, &endpoint) {
                    Ok(shared) => {
                        say(&format!("warning: Spanwise had ended and was started again: http://{}/", shared.page));
                        *shown.lock().unwrap_or_else(PoisonError::into_inner) = shared.page;
                        lease = Some(shared.lease);
                    }
                    Err(error) => {
                        failures += 1;
                        if failures == TRIES {
                            say(&format!("warning: Spanwise has ended and cannot be started again: {error:#}"));
                        }
                    }
                }
            }
            drop(lease);
        };
        std::thread::Builder::new().name("keeper".to_owned()).spawn(look).ok()?;
        Some(Keeper { page, _until_dropped: until_dropped })
    }

    /// Where the page is now.
    pub fn page(&self) -> String {
        self.page.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
