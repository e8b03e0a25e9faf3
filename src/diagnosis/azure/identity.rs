//! Entra's codes about the identity, the tenant, the resource and their policies. `feed setup` fixes none of
//! these.

use crate::diagnosis::general::troubled;
use crate::diagnosis::{Cause, Fix};
use crate::feed::azure::AzureAcr;

/// Returns whether the code means a transient outage of Entra itself.
pub(super) fn is_outage(code: &str) -> bool {
    matches!(
        code,
        "AADSTS40010"
            | "AADSTS50000"
            | "AADSTS50033"
            | "AADSTS90006"
            | "AADSTS90012"
            | "AADSTS90024"
            | "AADSTS90033"
            | "AADSTS90090"
            | "AADSTS90091"
            | "temporarily_unavailable"
            | "server_error"
    )
}

/// Returns the causes in the state of the identity, its tenant and its policies.
pub(super) fn of_state(code: &str, azure: &AzureAcr) -> Vec<Cause> {
    let AzureAcr { tenant_id, client_id } = azure;
    let admins = |what: &str| format!("ask the administrators of tenant {tenant_id} to {what}");
    let change = |what: &str, command: String| Fix::Change { what: what.to_owned(), command };
    match code {
        "AADSTS7000112" | "AADSTS70001" | "AADSTS1000031" => vec![
            Cause::new(
                format!("{client_id} is disabled in tenant {tenant_id}"),
                change(
                    "find out why it was disabled; if it should be enabled, run this",
                    format!("az ad sp update --id {client_id} --set accountEnabled=true"),
                ),
            ),
            Cause::act(
                "Microsoft or Identity Protection may have disabled it, which that command does not undo",
                admins("check the application and its risk in the Entra admin center"),
            ),
        ],
        "AADSTS7000229" => vec![
            Cause::new(
                format!("the application {client_id} has no service principal in tenant {tenant_id}"),
                change("create one with this", format!("az ad sp create --id {client_id}")),
            ),
            Cause::early("a new one takes some minutes to take effect"),
        ],
        "AADSTS700025" => vec![Cause::act(
            format!("{client_id} is a public client, which cannot authenticate with a token"),
            "allow confidential clients in the application's registration (allowPublicClient: false)",
        )],
        "AADSTS500014" | "AADSTS50001" => vec![Cause::act(
            format!("the requested resource is disabled in tenant {tenant_id}, or missing there"),
            admins(
                "enable the enterprise application of Azure Container Registry, or of Azure Resource Manager",
            ),
        )],
        "AADSTS28002" | "AADSTS70011" | "AADSTS700022" | "AADSTS700023" | "AADSTS650054" | "AADSTS650057" => {
            vec![Cause::act(
                "Entra does not know the scope, which carnet derives from the registry's cloud",
                "check that the registry's name and the endpoint authority belong to the same cloud; if they \
                 do, report it as a bug in carnet",
            )]
        }
        "AADSTS50105" | "AADSTS501051" => vec![Cause::act(
            format!("the resource requires an assignment, and {client_id} has none"),
            admins(
                "assign the identity to the enterprise application that the message names, or remove the \
                 assignment requirement",
            ),
        )],
        "AADSTS65001" | "AADSTS65005" | "AADSTS650052" | "AADSTS650056" | "AADSTS90094" => vec![Cause::act(
            format!(
                "tenant {tenant_id} has not consented to {client_id} using the resource that the message names"
            ),
            admins("consent to it, or subscribe to the missing service"),
        )],
        "AADSTS53003" | "AADSTS530032" | "AADSTS530034" | "AADSTS530035" | "AADSTS50131" | "AADSTS53011"
        | "AADSTS53000" | "AADSTS53001" | "AADSTS50005" | "AADSTS50076" | "AADSTS50079" | "AADSTS50158" => {
            vec![Cause::act(
                format!(
                    "a Conditional Access or security policy of tenant {tenant_id} blocks {client_id} from here"
                ),
                admins(
                    "find the request id in the sign-in log of service principals, and exempt this identity \
                     or allow this machine's address",
                ),
            )]
        }
        "AADSTS50053" => vec![Cause::act(
            "Entra blocks this machine's address or the identity, after too many failed sign-ins",
            admins("find the request id in the sign-in log, and dismiss the risk if there is none"),
        )],
        "AADSTS50002" | "AADSTS500021" | "AADSTS500022" => vec![Cause::act(
            format!("a proxy in between restricts tenants, and does not allow tenant {tenant_id}"),
            format!("ask the proxy's operators to add {tenant_id} to the allowed tenants"),
        )],
        "AADSTS500212" | "AADSTS500213" => vec![Cause::act(
            format!(
                "the cross-tenant access settings of tenant {tenant_id}, or of the identity's own tenant, \
                 refuse the request"
            ),
            admins("allow it in their cross-tenant access settings"),
        )],
        "AADSTS5000224" | "AADSTS5000225" => vec![Cause::act(
            format!(
                "Microsoft has blocked tenant {tenant_id}, as it does with tenants that were not used for a \
                 long time"
            ),
            admins("ask Microsoft's support to unblock it"),
        )],
        "AADSTS50059" | "AADSTS50128" | "AADSTS50049" | "AADSTS90019" => vec![Cause::act(
            format!("Entra does not find tenant {tenant_id} in the request: something in between changes it"),
            "check that the feed's endpoint authority, if it names one, ends before the tenant's id",
        )],
        "AADSTS50196" => vec![Cause::early(format!(
            "Entra refuses repeated requests of {client_id} as those of a client in a loop: another program \
             may use the identity, too"
        ))],
        "AADSTS700222" | "AADSTS700229" => vec![Cause::act(
            "Entra considers the token one of its own, which cannot be exchanged",
            "serve the issuer at a URL that is not a tenant's",
        )],
        "AADSTS90004" | "AADSTS90013" | "AADSTS90014" | "AADSTS900144" | "AADSTS90023" | "AADSTS9002313"
        | "AADSTS90100" | "AADSTS90102" | "AADSTS901002" | "AADSTS90117" | "AADSTS90121"
        | "AADSTS7000218" | "AADSTS70003" | "AADSTS900561" => vec![Cause::act(
            "Entra cannot read the request, which has the same form for every feed: something in between \
             changes it",
            "check that no proxy changes requests; if none does, report it as a bug in carnet",
        )],
        "AADSTS90036" | "AADSTS90092" | "AADSTS90093" => vec![Cause::act(
            "Entra has a fault that does not end by itself",
            "open a support ticket with Microsoft and give the request id",
        )],
        code if is_outage(code) => vec![troubled("azure")],
        _ => Vec::new(),
    }
}
