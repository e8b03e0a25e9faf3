//! From the name of a target to the target.

use std::sync::Arc;

use super::target_options::{OpenTargetError, TargetOptions};
use super::{FolderTarget, Target};
use crate::values::target_url::TargetUrl;

/// The target of that name. Nothing is asked of it yet, but the environment is read for the credentials of an
/// object store.
///
/// # Errors
///
/// [`OpenTargetError`].
pub fn open(url: &TargetUrl, options: &TargetOptions) -> Result<Arc<dyn Target>, OpenTargetError> {
    match url {
        TargetUrl::Folder(folder) => Ok(Arc::new(FolderTarget::new(folder.clone()))),
        #[cfg(feature = "publish")]
        TargetUrl::Objects { service, bucket, prefix } => {
            let place = super::objects::Place { service: *service, bucket, prefix };
            Ok(Arc::new(super::ObjectTarget::new(place, options)?))
        }
        #[cfg(not(feature = "publish"))]
        TargetUrl::Objects { .. } => {
            let _ = options;
            Err(OpenTargetError::NotBuilt(url.clone()))
        }
    }
}
