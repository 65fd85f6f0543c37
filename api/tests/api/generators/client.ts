// Compiles only if closed sets are enumerated, pages refer to their items and problems name their codes.
import type { components, operations, paths } from "./schema";

type Schemas = components["schemas"];

export function label(status: Schemas["TenantStatus"]): string {
  switch (status) {
    case "pending":
      return "Being set up";
    case "active":
      return "Active";
    case "suspended":
      return "Suspended";
    case "terminating":
    case "terminated":
      return "Removed";
  }
}

export function slugs(page: Schemas["TenantPage"]): string[] {
  return page.items.map((tenant: Schemas["Tenant"]) => tenant.slug);
}

export const filter: NonNullable<paths["/tenants"]["get"]["parameters"]["query"]> = {
  status: "active",
  plan: "business",
};

type CreateTenant = operations["createTenant"];

export const tenant: CreateTenant["requestBody"]["content"]["application/json"] = {
  slug: "acme",
  name: "Acme Ltd",
  domains: ["acme.test"],
};

export function explanation(
  problem: CreateTenant["responses"][409]["content"]["application/problem+json"],
): string {
  switch (problem.code) {
    case "slug_taken":
      return "Choose another name.";
    case "domain_taken":
      return "The domain is in use.";
    default:
      return problem.detail;
  }
}

export function jobPath(headers: CreateTenant["responses"][202]["headers"]): string | undefined {
  return headers.Location;
}

export function state(event: Schemas["JobEvent"]): Schemas["JobState"] {
  return event.data.state;
}

// The events of a tenant are told apart by their names.
export function changed(event: Schemas["TenantEvent"]): string {
  switch (event.event) {
    case "tenant":
      return event.data.slug;
    case "member":
      return event.data.email;
    case "app":
      return event.data.clientId;
    case "domain":
      return event.data.unicodeName;
    case "invoice":
      return event.data.currency;
    case "overflow":
      return event.data.parts;
  }
}

// A missing optional field is never null.
export function domain(tenant: Schemas["Tenant"]): string {
  return tenant.primaryDomain?.toUpperCase() ?? "none";
}
export const withoutNull: undefined extends Schemas["Tenant"]["primaryDomain"]
  ? null extends Schemas["Tenant"]["primaryDomain"]
    ? never
    : true
  : never = true;
