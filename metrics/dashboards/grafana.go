package main

// What Grafana reads, as far as it is needed: the model of schema 39. A map is
// written with its keys in order, so the files change only where the panels do.

type object = map[string]any

const (
	schema = 39
	width  = 24
	height = 8
)

// source is the data source that is chosen at the top.
func source() object { return object{"type": "prometheus", "uid": "${source}"} }

func (d dashboard) grafana() object {
	return object{
		"uid": "doorstep-" + d.name, "title": d.title, "tags": []string{"doorstep"}, "schemaVersion": schema, "version": 1,
		"editable": true, "refresh": "10s", "timezone": "browser", "time": object{"from": "now-1h", "to": "now"},
		"graphTooltip": 1, "annotations": object{"list": []any{}},
		"links": []object{{
			"type": "dashboards", "tags": []string{"doorstep"}, "title": "Doorstep", "asDropdown": false, "includeVars": true, "keepTime": true,
		}},
		"templating": object{"list": []object{
			{"name": "source", "type": "datasource", "query": "prometheus", "label": "Source", "hide": 0},
			{
				"name": "instance", "type": "query", "label": "Instance", "datasource": source(), "multi": true, "includeAll": true,
				"allValue": ".*", "refresh": 2, "sort": 1, "definition": "label_values(doorstep_build_info, instance)",
				"query":   object{"query": "label_values(doorstep_build_info, instance)", "refId": "instances"},
				"current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
			},
		}},
		"panels": d.panels(),
	}
}

func (d dashboard) panels() []object {
	var list []object
	for y, row := range d.rows {
		for x, p := range row {
			w := width / len(row)
			list = append(list, p.grafana(len(list)+1, object{"x": x * w, "y": y * height, "w": w, "h": height}))
		}
	}
	return list
}

func (p panel) grafana(id int, at object) object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source(), "expr": q.expr, "legendFormat": q.legend, "instant": p.stat, "range": !p.stat,
		})
	}
	defaults := object{"unit": p.unit, "min": 0}
	out := object{
		"id": id, "type": "timeseries", "title": p.title, "description": p.help, "gridPos": at, "datasource": source(), "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}},
	}
	if p.stat {
		out["type"] = "stat"
		out["options"] = object{
			"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "colorMode": "none", "graphMode": "none", "textMode": "value_and_name",
		}
		return out
	}
	custom := object{"fillOpacity": 0, "showPoints": "never"}
	if p.stacked {
		custom = object{"fillOpacity": 40, "showPoints": "never", "stacking": object{"mode": "normal", "group": "A"}}
	}
	defaults["custom"] = custom
	out["options"] = object{
		"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
	return out
}
