package app

import (
	"net/url"

	"doorstep/gateway/api"
	"doorstep/gateway/regions"
	"doorstep/metrics"
)

// regionList are Regions and RegionsInternal; nil where there is one region.
func (o Options) regionList() ([]regions.Region, error) {
	return regions.Parse(o.Region, o.Regions, o.RegionsInternal)
}

// otherRegions are the ways to the other regions; nil where there are none.
func (o Options) otherRegions(p *process, m *metrics.Metrics) (*regions.Regions, error) {
	list, err := o.regionList()
	if err != nil {
		return nil, err
	}
	return regions.New(regions.Options{Own: o.Region, List: list, MaxWaits: o.MaxWaits, Metrics: m, Log: p.log}), nil
}

// regionOrigins are the origins of the regions' public URLs.
func (o Options) regionOrigins() ([]string, error) {
	list, err := o.regionList()
	if err != nil {
		return nil, err
	}
	var origins []string
	for _, region := range list {
		u, err := url.Parse(region.URL)
		if err != nil {
			return nil, err
		}
		origin, err := api.ParseOrigin(u.Scheme + "://" + u.Host)
		if err != nil {
			return nil, err
		}
		origins = append(origins, origin)
	}
	return origins, nil
}
