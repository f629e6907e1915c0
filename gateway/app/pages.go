package app

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"

	"doorstep/gateway/pages"
	"doorstep/web"
)

// pages are the web pages; nil where they are off. The error names the setting that
// is wrong.
func (o Options) pages() (*pages.Pages, error) {
	if !o.Pages {
		return nil, nil //nolint:nilnil // none, as the setting says
	}
	if (o.PagesOIDCIssuer == "") != (o.PagesOIDCClient == "") {
		return nil, errors.New("pages-oidc-issuer, pages-oidc-client-id: one needs the other")
	}
	for _, f := range [][2]string{{"map-style-url", o.MapStyleURL}, {"pages-oidc-issuer", o.PagesOIDCIssuer}} {
		u, err := url.Parse(f[1])
		if f[1] != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil) {
			return nil, fmt.Errorf("%s: it is not a URL such as https://maps.example.com/style.json", f[0])
		}
	}
	connect, err := originsOf("pages-connect", o.PagesConnect)
	if err != nil {
		return nil, err
	}
	of, err := o.regionOrigins()
	if err != nil {
		return nil, err
	}
	ancestors, err := originsOf("frame-ancestors", o.FrameAncestors)
	if err != nil {
		return nil, err
	}
	return pages.New(web.Files, pages.Options{
		RadiusM: cmp.Or(o.ArrivalRadius, 150), MapStyle: o.MapStyleURL,
		Issuer: o.PagesOIDCIssuer, ClientID: o.PagesOIDCClient, Scope: cmp.Or(o.PagesOIDCScope, "openid"),
		Painted: o.PagesPainted, Connect: append(connect, of...), FrameAncestors: ancestors,
	})
}
