//! The labels of a copy remember the state of the database, and the database is compared with them.

use std::sync::Arc;
use std::time::Duration;

use super::super::world::somebody;
use super::{HOUR, Published};
use crate::grant::{GrantDraft, Permissions};
use crate::publish::{DocumentName, Edition};

const SECOND: Duration = Duration::from_secs(1);

impl Published {
    fn state(&self) -> String {
        self.process.carnet.issuer().state_status().unwrap().state.to_string()
    }

    fn labelled(&self) -> String {
        self.copy.label().unwrap().state.unwrap()
    }

    async fn create_grant(&self) {
        let draft = GrantDraft {
            name: "ci".parse().unwrap(),
            permissions: Permissions::unlimited_admin(),
            expires_at: None,
        };
        self.process.carnet.grants().create(draft, &somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_of_a_grant_renews_the_label_within_a_second_and_leaves_the_documents() {
    let mut published = Published::begin(HOUR).await;
    published.step(SECOND).await;
    let (before, jwks) = (published.state(), published.copy.jwks());
    assert_eq!(published.labelled(), before);
    let writes = published.copy.writes();
    // The first change is written at once, and the others of that second together.
    for _ in 0..5 {
        published.create_grant().await;
        published.check_target().await;
    }
    assert_eq!(published.copy.writes(), writes + 1);
    published.step(SECOND).await;
    assert_eq!(published.labelled(), published.state());
    assert_ne!(published.state(), before);
    assert_eq!((published.copy.writes(), published.copy.jwks()), (writes + 2, jwks));
    published.step(SECOND).await;
    assert_eq!(published.copy.writes(), writes + 2);

    // A failure is tried again.
    published.copy.set_down(true);
    published.create_grant().await;
    published.step(SECOND).await;
    published.copy.set_down(false);
    for _ in 0..5 {
        published.step(SECOND).await;
    }
    assert_eq!(published.labelled(), published.state());
}

#[tokio::test]
async fn a_target_that_cannot_be_read_at_the_start_is_compared_before_the_first_write() {
    let published = Published::begin(HOUR).await;
    let mut later = Edition::of(published.process.carnet.issuer());
    let (n, head) =
        published.state().split_once(':').map(|(n, head)| (n.to_owned(), head.to_owned())).unwrap();
    later.label.state = Some(format!("{}:{head}", n.parse::<i64>().unwrap() + 3));
    let url = "s3://bucket/issuer".parse().unwrap();
    published.copy.relabel(later.label_at(&url, DocumentName::Jwks, None));

    let process = published.machine.open().await;
    let refused = process.carnet.publisher(Arc::clone(&published.copy) as _).await.unwrap_err();
    assert!(refused.to_string().contains("was replaced by an older database"), "{refused}");

    let process = published.machine.open().await;
    published.copy.set_down(true);
    let mut publisher = process.carnet.publisher(Arc::clone(&published.copy) as _).await.unwrap();
    published.copy.set_down(false);
    let writes = published.copy.writes();
    process.carnet.store().believed().unwrap();
    publisher.check_target().await;
    let refused = process.carnet.store().believed().unwrap_err();
    assert!(refused.to_string().contains("the label of the published copy at"), "{refused}");
    // It stays refused, and the copy as it is.
    let pulse = process.carnet.store().key_pulse().await.unwrap();
    process.carnet.store().follow_state(pulse.state).await.unwrap_err();
    published.machine.clock.advance(HOUR);
    publisher.check_target().await;
    assert_eq!(published.copy.writes(), writes);
}
