"""The pictures that steps draw, by functions whose modules are imported when one is first called: matplotlib is large,
and to plan a picture needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkpipe.deferred import called_later

if TYPE_CHECKING:
    from darkpipe.report.ageing import ageing_summary as ageing_summary
    from darkpipe.report.ageing import verdict_lines as verdict_lines
    from darkpipe.report.campaign import campaign_figure as campaign_figure
    from darkpipe.report.campaign import plan_lines as plan_lines
    from darkpipe.report.canvas import save_png as save_png
    from darkpipe.report.characterize import before_and_after as before_and_after
    from darkpipe.report.characterize import chosen_points as chosen_points
    from darkpipe.report.characterize import set_statistics as set_statistics
    from darkpipe.report.characterize import stretched_image as stretched_image
    from darkpipe.report.figures import bias_levels as bias_levels
    from darkpipe.report.figures import cell_name as cell_name
    from darkpipe.report.figures import dark_image as dark_image
    from darkpipe.report.figures import dark_vs_exposure_and_temperature as dark_vs_exposure_and_temperature
    from darkpipe.report.figures import dark_vs_inverse_temperature as dark_vs_inverse_temperature
    from darkpipe.report.figures import error_map as error_map
    from darkpipe.report.figures import evaluation_summary as evaluation_summary
    from darkpipe.report.figures import glow_map as glow_map
    from darkpipe.report.figures import hot_pixel_curve as hot_pixel_curve
    from darkpipe.report.figures import hot_pixel_map as hot_pixel_map
    from darkpipe.report.figures import parameter_maps as parameter_maps
    from darkpipe.report.figures import residual_map as residual_map
    from darkpipe.report.grids import accuracy_grid as accuracy_grid
    from darkpipe.report.page import write_page as write_page
    from darkpipe.report.temperature import temperature_figure as temperature_figure
else:
    ageing_summary = called_later("darkpipe.report.ageing", "ageing_summary")
    verdict_lines = called_later("darkpipe.report.ageing", "verdict_lines")
    campaign_figure = called_later("darkpipe.report.campaign", "campaign_figure")
    plan_lines = called_later("darkpipe.report.campaign", "plan_lines")
    save_png = called_later("darkpipe.report.canvas", "save_png")
    before_and_after = called_later("darkpipe.report.characterize", "before_and_after")
    chosen_points = called_later("darkpipe.report.characterize", "chosen_points")
    set_statistics = called_later("darkpipe.report.characterize", "set_statistics")
    stretched_image = called_later("darkpipe.report.characterize", "stretched_image")
    bias_levels = called_later("darkpipe.report.figures", "bias_levels")
    cell_name = called_later("darkpipe.report.figures", "cell_name")
    dark_image = called_later("darkpipe.report.figures", "dark_image")
    dark_vs_exposure_and_temperature = called_later("darkpipe.report.figures", "dark_vs_exposure_and_temperature")
    dark_vs_inverse_temperature = called_later("darkpipe.report.figures", "dark_vs_inverse_temperature")
    error_map = called_later("darkpipe.report.figures", "error_map")
    evaluation_summary = called_later("darkpipe.report.figures", "evaluation_summary")
    glow_map = called_later("darkpipe.report.figures", "glow_map")
    hot_pixel_curve = called_later("darkpipe.report.figures", "hot_pixel_curve")
    hot_pixel_map = called_later("darkpipe.report.figures", "hot_pixel_map")
    parameter_maps = called_later("darkpipe.report.figures", "parameter_maps")
    residual_map = called_later("darkpipe.report.figures", "residual_map")
    accuracy_grid = called_later("darkpipe.report.grids", "accuracy_grid")
    write_page = called_later("darkpipe.report.page", "write_page")
    temperature_figure = called_later("darkpipe.report.temperature", "temperature_figure")
