//! Opens a target by its URL.

use std::sync::Arc;

use super::target_options::{OpenTargetError, TargetOptions};
use super::{FolderTarget, Target};
use crate::values::target_url::TargetUrl;

/// Returns the target at `url`. For an object store, credentials are read from the environment; no request is
/// sent.
pub fn open(url: &TargetUrl, options: &TargetOptions) -> Result<Arc<dyn Target>, OpenTargetError> {
    match url {
        TargetUrl::Folder(folder) => Ok(Arc::new(FolderTarget::new(folder.clone()))),
        #[cfg(feature = "publish")]
        TargetUrl::Objects { service, bucket, prefix } => {
            let place = super::objects::BucketPath { service: *service, bucket, prefix };
            Ok(Arc::new(super::ObjectTarget::new(place, options)?))
        }
        #[cfg(not(feature = "publish"))]
        TargetUrl::Objects { .. } => {
            let _ = options;
            Err(OpenTargetError::NotBuilt(url.clone()))
        }
    }
}
