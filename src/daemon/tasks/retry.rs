//! Reads rejections again.

use super::replay::spooled;
use super::{Bench, Done, Refusal, RetriedDocument, Told};
use crate::pipeline::{PipelineError, Retried};
use crate::record::delivery::shown;
use crate::store::query::{OpenRejection, Query as _, RejectedDocument, RejectionWish};

impl Bench<'_> {
    pub(super) fn retry(&self, wish: &RejectionWish) -> Result<Done, Refusal> {
        if !self.attended {
            self.drain_all(None, &mut |_, _| {})?;
        }
        let _turn = self.alone()?;
        let documents = self.query()?.rejected_documents(wish)?;
        for id in &wish.ids {
            let is = |open: &OpenRejection| open.id == *id && open.chosen;
            if !documents.iter().any(|document| document.rejections.iter().any(is)) {
                return Err(Refusal::new(format!(
                    "there is no open rejection {id} like that; `cdrd rejected list --all` lists them; nothing was changed"
                )));
            }
        }
        // Read once to count equal rows, once for what was rejected.
        let bytes = documents.iter().map(|document| document.delivery.bytes * 2).sum();
        (self.tell)(Told::Chosen { bytes });
        Ok(self.telling(|| self.retry_all(&documents)))
    }

    fn retry_all(&self, documents: &[RejectedDocument]) -> Done {
        let mut done = Vec::new();
        for document in documents {
            let delivery = &document.delivery;
            let read = spooled(self.storing, delivery.clone());
            let mut told = RetriedDocument {
                delivery: delivery.id.to_string(),
                name: shown(&delivery.name),
                number: document.number,
                resolved: 0,
                rejected: 0,
                added: 0,
                otherwise: false,
            };
            match self.storing.pipeline.retry(document, &read, self.stop) {
                Ok(Retried::Read { resolved, rejected, added }) => {
                    told = RetriedDocument { resolved, rejected, added, ..told };
                }
                Ok(Retried::Otherwise) => {
                    let open = document.rejections.iter().filter(|rejection| rejection.chosen).count();
                    told = RetriedDocument { rejected: open as u64, otherwise: true, ..told };
                }
                // What was done so far stays and is told.
                Err(PipelineError::Stopping) => {
                    let failed = Some("interrupted; the others are open as before".to_owned());
                    return Done::Retried { documents: done, failed };
                }
                Err(error) => return Done::Retried { documents: done, failed: Some(error.to_string()) },
            }
            done.push(told);
        }
        Done::Retried { documents: done, failed: None }
    }
}
