// A browser in front of the simulated issuer, and a portal that it returns to.
export const REDIRECT_URI = "http://localhost:3000/callback";

export class Browser {
  cookie = "";

  async open(url) {
    const answer = await fetch(url, { redirect: "manual", headers: { cookie: this.cookie } });
    const set = answer.headers.getSetCookie()[0];
    if (set !== undefined) {
      this.cookie = set.split(";")[0];
    }
    return answer;
  }

  // Picks a caller on the page of the issuer. Returns the address of the portal that it leads to.
  async signIn(authorization, caller) {
    const page = await (await this.open(authorization)).text();
    if (!page.includes(`value="${caller}"`)) {
      throw new Error(`${caller} is not on the page: ${page}`);
    }
    const choice = new URL(authorization);
    choice.searchParams.set("sign_in_as", caller);
    return this.follow(choice);
  }

  async follow(url) {
    const answer = await this.open(url);
    const location = answer.headers.get("location");
    if (location === null) {
      throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
    }
    return new URL(location);
  }
}
